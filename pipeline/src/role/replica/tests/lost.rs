//! Tunnels of gateways for connections that the replica does not know.

use super::hostile::client;
use super::*;
use crate::counters::Generated;
use crate::packet::view::Packet;
use crate::stage::tag::Configuration;
use crate::wire::tcp;

const ACK: u8 = Flags::ACK;
const RST: u8 = Flags::RST;

impl Harness {
    /// Sends a segment of a client in a tunnel of its gateway.
    fn tunnel(&mut self, flags: u8, to: &str, outer: (&str, &str)) -> (Verdict, [Vec<Vec<u8>>; 2]) {
        let segment = Segment::new(&client(1), to, flags, 4000, 9000).inbound();
        self.process(&segment.tunnelled(outer.0, outer.1))
    }

    fn process(&mut self, frame: &[u8]) -> (Verdict, [Vec<Vec<u8>>; 2]) {
        let (mut burst, mut out) = (Burst::default(), Output::new(1));
        burst.fill(std::iter::once(HeapBuffer::new(frame)));
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.replica.process(Side::Outside, &mut burst, &mut context);
        let frames = Side::ALL
            .map(|side| out.side(side).drain(..).map(|buffer| buffer.frame().to_vec()).collect());
        (burst.verdicts()[0], frames)
    }
}

const OUTER: (&str, &str) = ("198.18.1.10", "198.51.100.10");

#[test]
fn both_ends_of_an_unknown_connection_are_reset() {
    let mut harness = Harness::new();
    let (verdict, [inside, outside]) = harness.tunnel(ACK, SERVER, OUTER);
    assert_eq!(verdict, Verdict::TunnelReset);
    let to_web = Packet::new(HeapBuffer::new(&inside[0]));
    assert_eq!(to_web.source::<V4>(), crate::testing::endpoint(&client(1)));
    assert_eq!(to_web.destination::<V4>(), crate::testing::endpoint(WEB));
    assert_eq!((tcp::flags(to_web.tcp()), tcp::sequence(to_web.tcp())), (Flags(RST), 4000));
    // Back through the tunnel, as from the server.
    let mut inner = outside[0][..14].to_vec();
    inner.extend(&outside[0][14 + 20..]);
    let to_client = Packet::new(HeapBuffer::new(&inner));
    assert_eq!(to_client.source::<V4>(), crate::testing::endpoint(SERVER));
    assert_eq!(to_client.destination::<V4>(), crate::testing::endpoint(&client(1)));
    assert_eq!((tcp::flags(to_client.tcp()), tcp::sequence(to_client.tcp())), (Flags(RST), 9000));
    assert!(to_client.ip_checksum_ok() && to_client.tcp_checksum_ok::<V4>());
    let outer = Packet::new(HeapBuffer::new(&outside[0]));
    let ends = (V4::source(outer.ip()), V4::destination(outer.ip()));
    assert_eq!(ends, ([198, 51, 100, 10].into(), [198, 18, 1, 10].into()));
}

#[test]
fn only_a_segment_of_a_connection_in_the_right_form_is_answered() {
    let mut harness = Harness::new();
    let others = ("203.0.113.99:80", "198.51.100.10:80");
    for (flags, to, outer) in [
        (RST, SERVER, OUTER),
        (RST | ACK, SERVER, OUTER),
        (Flags::SYN, SERVER, OUTER),
        (Flags::SYN | ACK, SERVER, OUTER),
        (0, SERVER, OUTER),
        (ACK, others.0, OUTER),
        (ACK, others.1, OUTER),
        (ACK, SERVER, ("198.18.1.11", "198.51.100.10")),
        (ACK, SERVER, ("198.18.1.10", "198.51.100.77")),
    ] {
        let (verdict, frames) = harness.tunnel(flags, to, outer);
        assert_ne!(verdict, Verdict::TunnelReset, "{flags} {to} {outer:?}");
        assert!(frames.iter().flatten().count() <= 1, "it may pass: {verdict:?}");
    }
    // One that is damaged, inside or outside, is dropped.
    let frame = Segment::new(&client(1), SERVER, ACK, 4000, 9000).inbound();
    let frame = frame.tunnelled(OUTER.0, OUTER.1);
    for (at, verdict) in
        [(14 + 10, Verdict::TunnelChecksum), (frame.len() - 3, Verdict::TunnelInnerChecksum)]
    {
        let mut frame = frame.clone();
        frame[at] ^= 0x55;
        assert_eq!(harness.process(&frame), (verdict, [vec![], vec![]]));
    }
    let counters = harness.replica.counters();
    assert_eq!(counters.generated[Generated::LostReset as usize].get(), 0);
}

#[test]
fn a_connection_that_is_known_is_never_reset() {
    let mut harness = Harness::roomy(|_| {});
    for configuration in [Configuration::A, Configuration::B, Configuration::C] {
        let mut other = Harness::roomy(|_| {});
        other.connection(1, configuration);
        assert_ne!(other.tunnel(ACK, SERVER, OUTER).0, Verdict::TunnelReset, "{configuration:?}");
    }
    // A thousand a second.
    let answered =
        (0..1500).filter(|_| harness.tunnel(ACK, SERVER, OUTER).0 == Verdict::TunnelReset);
    assert_eq!(answered.count(), 1000);
}
