//! What a burst's packets are going to be looked up by.

use super::Common;
use super::kept::{Kept, Pair, Phase};
use crate::buffer::Buffer;
use crate::burst::{BURST, Burst};
use crate::family::{Family, V4, V6, Version};
use crate::role::{Foreseen, LookAhead};
use crate::table::Table;
use crate::view::{Kind, Side, View};

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
    pub(super) fn look<B: Buffer>(
        &mut self,
        from: Side,
        burst: &Burst<B>,
        common: &Common,
        (v4, v6): (&Connections<V4>, &Connections<V6>),
    ) {
        burst.visit(|number, head, view| {
            self.connections.nothing(number);
            self.services[number] = match (view.kind, view.version) {
                (Kind::Tcp, _) if from == Side::Inside && !common.follows => None,
                (Kind::Tcp, Version::V4) => self.look_at(number, (from, head, view), common, v4),
                (Kind::Tcp, Version::V6) => self.look_at(number, (from, head, view), common, v6),
                _ => None,
            };
        });
        self.connections.entries(burst.len(), v4, v6);
    }

    /// The service of a TCP packet; its connection is asked for when it may be kept.
    #[inline]
    fn look_at<F: Family>(
        &mut self,
        number: usize,
        (from, head, view): (Side, &[u8], &View),
        common: &Common,
        kept: &Connections<F>,
    ) -> Option<u16> {
        let (source, destination) = (view.source::<F>(head), view.destination::<F>(head));
        let (client, to) = match from {
            Side::Outside => (source, destination),
            Side::Inside => (destination, source),
        };
        let service = common.services.find(to.address.into(), to.port)?;
        if common.serving[usize::from(service)].keeps() {
            self.connections.bucket(number, kept, (client, to));
        }
        Some(service)
    }

    /// What is known of a packet's connection, and its service.
    #[inline]
    pub(super) fn of(&self, number: usize) -> (Foreseen, Option<usize>) {
        (self.connections.of(number), self.services[number].map(usize::from))
    }
}
