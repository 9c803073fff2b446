//! The table and single stages, 32 calls per step.

use std::hint::black_box;

use firstack_packets::{self as packets, LINUX_OPTIONS, Segment, ethernet_frame, tunnel_in};
use pipeline::base::time::Ticks;
use pipeline::packet::buffer::Buffer;
use pipeline::packet::view::{Packet, View};
use pipeline::stage::encap::{self, Outer};
use pipeline::stage::sign::Keys;
use pipeline::stage::{self, classify, rewrite, tag};
use pipeline::wire::family::{self, Endpoint};
use pipeline::wire::tunnel::Format;

use super::{Case, Named, ROUNDS, Work};
use crate::find::{self, Connections, Numbered};
use crate::fixtures::{SERVER, V6};
use crate::{BURST, Slab, SlabBuffer, client, client_v6};

pub(super) fn cases() -> Vec<Case> {
    let keys: [Named; 5] = [
        ("table_hash", || Box::new(Hashes(find::table(OPEN, 0)))),
        ("table_find_64k", || finds::<family::V4>(64_000)),
        ("table_find_64k_v6", || finds::<family::V6>(64_000)),
        ("table_insert", || Box::new(Inserts { table: find::table(OPEN + NEW, OPEN), next: OPEN })),
        ("table_remove", || Box::new(Removals { table: find::table(NEW, NEW), next: 0 })),
    ];
    let packets: [Named; 12] = [
        ("parse", || over(data(), parse)),
        ("parse_v6", || over(data_v6(), parse)),
        ("classify_syn", || over(syn(), classify_syn)),
        ("tag_insert", || {
            let keys = Keys::default();
            over(syn(), move |p| insert_tag(p, &keys))
        }),
        ("tag_insert_signed", || {
            let keys = Keys::new([(1, [7; 16])], Some(1));
            over(syn(), move |p| insert_tag(p, &keys))
        }),
        ("rewrite_destination", || {
            let to = Endpoint::<family::V4>::new([198, 51, 100, 10].into(), 80);
            over(data(), move |p| rewrite::destination(p, to))
        }),
        ("encap_ipip", || encap(Format::Ipip)),
        ("encap_gre", || encap(Format::Gre)),
        ("encap_gue_v6", encap_v6),
        ("decap_ipip", || decap(packets::Format::IPIP, ENDS, data())),
        ("decap_gre", || decap(packets::Format::GRE, ENDS, data())),
        ("decap_gue_v6", || decap(packets::Format::GUE, ENDS_V6, data_v6())),
    ];
    let keys = keys.map(|(name, build)| Case::burst(name, "key", build));
    keys.into_iter()
        .chain(packets.map(|(name, build)| Case::burst(name, "packet", build)))
        .collect()
}

const OPEN: usize = 1024;
const NEW: usize = ROUNDS * BURST;
const ENDS: (&str, &str) = ("198.18.1.10", "198.51.100.10");
const ENDS_V6: (&str, &str) = ("2001:db8:1::10", "2001:db8:3::10");

struct Hashes(Connections<family::V4>);

impl Work for Hashes {
    fn prepare(&mut self) {}

    fn step(&mut self) {
        for number in 0..BURST {
            black_box(self.0.hash(black_box(family::V4::numbered(number))));
        }
    }

    fn check(&mut self) {}
}

struct Finds<F: Numbered> {
    table: Connections<F>,
    keys: Vec<Endpoint<F>>,
    next: usize,
}

fn finds<F: Numbered + 'static>(count: usize) -> Box<dyn Work> {
    let keys = find::scattered(NEW, count).map(F::numbered).collect();
    Box::new(Finds::<F> { table: find::table(count, count), keys, next: 0 })
}

impl<F: Numbered> Work for Finds<F> {
    fn prepare(&mut self) {
        self.next = (self.next + BURST) % self.keys.len();
    }

    fn step(&mut self) {
        black_box(find::find(&mut self.table, &self.keys[self.next..self.next + BURST]));
    }

    fn check(&mut self) {}
}

struct Inserts {
    table: Connections<family::V4>,
    next: usize,
}

impl Work for Inserts {
    fn prepare(&mut self) {}

    fn step(&mut self) {
        (0..BURST).for_each(|number| find::insert(&mut self.table, self.next + number));
    }

    fn check(&mut self) {
        self.next += BURST;
        assert_eq!(self.table.len(), self.next);
    }
}

struct Removals {
    table: Connections<family::V4>,
    next: usize,
}

impl Work for Removals {
    fn prepare(&mut self) {}

    fn step(&mut self) {
        (0..BURST).for_each(|number| find::remove(&mut self.table, self.next + number));
    }

    fn check(&mut self) {
        self.next += BURST;
        assert_eq!(self.table.len() + self.next, NEW);
    }
}

/// A stage, and the 32 packets that it is applied to.
struct Over<S> {
    frame: Vec<u8>,
    stage: S,
    packets: Vec<Packet<SlabBuffer>>,
    slab: Slab,
}

fn over<S: Fn(&mut Packet<SlabBuffer>) + 'static>(frame: Vec<u8>, stage: S) -> Box<dyn Work> {
    let mut slab = Slab::default();
    slab.refill(BURST);
    Box::new(Over { frame, stage, packets: Vec::with_capacity(BURST), slab })
}

impl<S: Fn(&mut Packet<SlabBuffer>)> Work for Over<S> {
    fn prepare(&mut self) {
        self.packets.extend((0..BURST).map(|_| Packet::new(self.slab.with(&self.frame))));
    }

    fn step(&mut self) {
        self.packets.iter_mut().for_each(|packet| (self.stage)(black_box(packet)));
    }

    fn check(&mut self) {
        self.packets.drain(..).for_each(|packet| self.slab.put(packet.buffer));
    }
}

fn data() -> Vec<u8> {
    Segment::ack(&client(0), SERVER, 8, 6).payload(&[0; 6]).frame()
}

fn data_v6() -> Vec<u8> {
    Segment::ack(&client_v6(0), V6.server, 8, 6).payload(&[0; 6]).frame()
}

fn syn() -> Vec<u8> {
    Segment::syn(&client(0), SERVER, 7).options(&LINUX_OPTIONS).frame()
}

fn parse(packet: &mut Packet<SlabBuffer>) {
    packet.view = View::parse(packet.buffer.head(), packet.buffer.frame_len());
}

fn classify_syn(packet: &mut Packet<SlabBuffer>) {
    assert!(classify::syn::<family::V4, _>(packet, tag::OptionId::default(), 8).is_ok());
}

fn insert_tag(packet: &mut Packet<SlabBuffer>, keys: &Keys) {
    const TAG: tag::Tag = tag::Tag::requesting(tag::CopiesWanted::ALL, tag::Configuration::A);
    assert!(tag::insert::<family::V4, _>(packet, tag::OptionId::default(), TAG, keys.at(Ticks(0))));
}

fn encap(format: Format) -> Box<dyn Work> {
    let outer = Outer::<family::V4> {
        format,
        source: ENDS.0.parse().expect("an address"),
        destination: ENDS.1.parse().expect("an address"),
        entropy: 9,
    };
    over(data(), move |packet| assert!(encap::put(packet, &outer)))
}

fn encap_v6() -> Box<dyn Work> {
    let outer = Outer::<family::V6> {
        format: Format::Gue,
        source: ENDS_V6.0.parse().expect("an address"),
        destination: ENDS_V6.1.parse().expect("an address"),
        entropy: 9,
    };
    over(data_v6(), move |packet| assert!(encap::put(packet, &outer)))
}

/// Parses the inner packet and decapsulates it.
fn decap(format: packets::Format, ends: (&str, &str), inner: Vec<u8>) -> Box<dyn Work> {
    let tunnel = tunnel_in(format, ends, (0, 9), &inner[14..]);
    over(ethernet_frame(([2; 6], [2; 6]), &tunnel), |packet| {
        let inner = packet.view.inner(packet.buffer.head());
        assert!(stage::decap::open(packet, inner).is_ok());
    })
}
