//! What a burst's packets are going to be looked up by.

use super::Common;
use super::Phase;
use super::affinity::{Kept, Pair};
use crate::packet::buffer::Buffer;
use crate::packet::burst::{BURST, Burst, Seen};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::role::{Foreseen, LookAhead, Shape};
use crate::table::{Guess, Table};
use crate::packet::view::{Kind, Side, View};

type Connections<F> = Table<Pair<F>, Phase, Kept>;

/// The services of a burst's packets, and where their connections are kept.
pub(super) struct Ahead {
    services: [Option<u16>; BURST],
    connections: LookAhead,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { services: [None; BURST], connections: LookAhead::default() }
    }
}

impl Ahead {
    /// Finds the services of the burst's TCP packets, and has their connections fetched.
    #[inline(always)]
    pub(super) fn look<B: Buffer>(
        &mut self,
        from: Side,
        burst: &mut Burst<B>,
        common: &Common,
        (v4, v6): (&Connections<V4>, &Connections<V6>),
    ) {
        for number in 0..burst.len().min(BURST) {
            let Seen { head, view, plain } = burst.see(number);
            match plain {
                Some(headers) => {
                    let ends = (headers.source(), headers.destination());
                    self.look_at(number, Shape::PlainV4, (from, ends), common, v4);
                }
                None => self.look_at_other(number, (from, head, view), common, (v4, v6)),
            }
        }
        self.connections.entries(burst.len(), v4, v6);
    }

    fn look_at_other(
        &mut self,
        number: usize,
        (from, head, view): (Side, &[u8], &View),
        common: &Common,
        (v4, v6): (&Connections<V4>, &Connections<V6>),
    ) {
        match (view.kind, view.version) {
            (Kind::Tcp, Version::V4) => {
                let ends = (view.source(head), view.destination(head));
                self.look_at(number, Shape::LongV4, (from, ends), common, v4);
            }
            (Kind::Tcp, Version::V6) => {
                let ends = (view.source(head), view.destination(head));
                self.look_at(number, Shape::of_v6(view), (from, ends), common, v6);
            }
            _ => {
                self.services[number] = None;
                self.connections.nothing(number, Shape::of_other(view));
            }
        }
    }

    /// Of a TCP packet: its service; its connection is asked for when it may be kept.
    #[inline(always)]
    fn look_at<F: Family>(
        &mut self,
        number: usize,
        shape: Shape,
        (from, (source, destination)): (Side, (Endpoint<F>, Endpoint<F>)),
        common: &Common,
        kept: &Connections<F>,
    ) {
        let (client, to) = match from {
            Side::Outside => (source, destination),
            Side::Inside => (destination, source),
        };
        let concerns = from == Side::Outside || common.follows;
        let service = concerns.then(|| common.services.find(to.address.into(), to.port)).flatten();
        self.services[number] = service;
        match service {
            Some(service) if common.serving[usize::from(service)].keeps() => {
                self.connections.bucket(number, shape, kept, (client, to));
            }
            _ => self.connections.nothing(number, Shape::Passing),
        }
    }

    /// What is known of a packet's connection, and its service.
    #[inline]
    pub(super) fn of(&self, number: usize) -> (Foreseen, Option<usize>) {
        (self.connections.of(number), self.service(number))
    }

    /// How a packet goes on: [`Shape::Passing`] is TCP whose connection is not kept.
    #[inline(always)]
    pub(super) fn shape(&self, number: usize) -> (Shape, Guess) {
        self.connections.shape(number)
    }

    /// Its service.
    #[inline(always)]
    pub(super) fn service(&self, number: usize) -> Option<usize> {
        self.services[number % BURST].map(usize::from)
    }
}
