//! Pass 1 at the switch: the service of each packet, and the key by which its affinity is looked
//! up.

use super::affinity::{Affinity, Pair};
use super::{Common, Phase};
use crate::packet::buffer::Buffer;
use crate::packet::burst::{BURST, Burst, Parsed};
use crate::packet::view::{Kind, Side, View};
use crate::role::{BurstLookup, LookupHint, PathClass};
use crate::table::{EntryHint, Table};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};

type Affinities<F> = Table<Pair<F>, Phase, Affinity>;

/// The services of a burst's packets, and the lookups of their affinities.
pub(super) struct ServiceLookup {
    services: [Option<u16>; BURST],
    affinities: BurstLookup,
}

impl Default for ServiceLookup {
    fn default() -> Self {
        Self { services: [None; BURST], affinities: BurstLookup::default() }
    }
}

/// The side that a TCP packet was received on, and its endpoints.
struct Segment<F: Family> {
    from: Side,
    source: Endpoint<F>,
    destination: Endpoint<F>,
}

impl<F: Family> Segment<F> {
    #[inline(always)]
    fn of(from: Side, head: &[u8], view: &View) -> Self {
        Self { from, source: view.source(head), destination: view.destination(head) }
    }

    /// Returns the client's and the service's endpoint.
    #[inline(always)]
    fn pair(&self) -> Pair<F> {
        match self.from {
            Side::Outside => [self.source, self.destination],
            Side::Inside => [self.destination, self.source],
        }
    }
}

impl ServiceLookup {
    /// Pass 1: finds the services of the burst's TCP packets, and prefetches the buckets of their
    /// affinities.
    #[inline(always)]
    pub(super) fn classify<B: Buffer>(
        &mut self,
        from: Side,
        burst: &mut Burst<B>,
        common: &Common,
        v4: &Affinities<V4>,
        v6: &Affinities<V6>,
    ) {
        for number in 0..burst.len().min(BURST) {
            let Parsed { head, view, plain, plain_v6 } = burst.parse(number);
            match (plain, plain_v6) {
                (Some(headers), _) => {
                    let (source, destination) = (headers.source(), headers.destination());
                    let segment = Segment { from, source, destination };
                    self.classify_tcp(number, PathClass::FastV4, &segment, common, v4);
                }
                (None, Some(headers)) => {
                    let (source, destination) = (headers.source(), headers.destination());
                    let segment = Segment { from, source, destination };
                    self.classify_tcp(number, PathClass::FastV6, &segment, common, v6);
                }
                (None, None) => {
                    self.classify_other(from, number, (head, view), common, (v4, v6));
                }
            }
        }
    }

    /// Classifies any other packet. Outside the loop over a burst.
    #[inline(never)]
    fn classify_other(
        &mut self,
        from: Side,
        number: usize,
        (head, view): (&[u8], &View),
        common: &Common,
        (v4, v6): (&Affinities<V4>, &Affinities<V6>),
    ) {
        match (view.kind, view.version) {
            (Kind::Tcp, Version::V4) => {
                let segment = Segment::of(from, head, view);
                self.classify_tcp(number, PathClass::SlowV4, &segment, common, v4);
            }
            (Kind::Tcp, Version::V6) => {
                let segment = Segment::of(from, head, view);
                self.classify_tcp(number, PathClass::SlowV6, &segment, common, v6);
            }
            _ => {
                self.services[number] = None;
                self.affinities.without_key(number, PathClass::of_other(view));
            }
        }
    }

    /// Finds the service of a TCP packet, and prefetches its affinity if the service has any.
    #[inline(always)]
    fn classify_tcp<F: Family>(
        &mut self,
        number: usize,
        class: PathClass,
        segment: &Segment<F>,
        common: &Common,
        affinities: &Affinities<F>,
    ) {
        let pair = segment.pair();
        let to = pair[1];
        let needs_service = segment.from == Side::Outside || common.tracks_inside;
        let service =
            needs_service.then(|| common.services.find(to.address.into(), to.port)).flatten();
        self.services[number] = service;
        match service {
            Some(service) if common.states[usize::from(service)].has_affinity() => {
                self.affinities.prefetch_bucket(number, class, affinities, pair);
            }
            _ => self.affinities.without_key(number, PathClass::PassThrough),
        }
    }

    /// Pass 2: prefetches the entries of the first `count` packets.
    #[inline(always)]
    pub(super) fn prefetch_entries(
        &mut self,
        count: usize,
        v4: &Affinities<V4>,
        v6: &Affinities<V6>,
    ) {
        self.affinities.prefetch_entries(count, v4, v6);
    }

    /// Pass 3: returns the result of the first two passes for a packet.
    #[inline]
    pub(super) fn hint(&self, number: usize) -> LookupHint {
        self.affinities.hint(number)
    }

    /// Pass 3: returns the class of a packet. [`PathClass::PassThrough`] is TCP without affinity.
    #[inline(always)]
    pub(super) fn class(&self, number: usize) -> (PathClass, EntryHint) {
        self.affinities.class(number)
    }

    /// Pass 3: returns the service of a packet.
    #[inline(always)]
    pub(super) fn service(&self, number: usize) -> Option<usize> {
        self.services[number % BURST].map(usize::from)
    }
}
