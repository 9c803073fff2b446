//! Counters that one worker writes and any thread may read.
//!
//! Whenever the worker is at rest, `received = forwarded + consumed + dropped` holds on each side,
//! and `forwarded + generated = sent + unsent` over both.
//!
//! [`Generated`] and [`Scalar`] are tables: name, unit, roles and meaning of a counter stand in one
//! line, from which `firstack stats`, its JSON, docs/counters.md and the scenario checker follow.

mod earlier;
mod histogram;
mod limited;
mod responders;
mod roles;
mod sightings;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::packet::view::Side;
use crate::verdict::{Fate, Roles, Verdict};
use crate::wire::family::Version;

pub use earlier::EarlierNumbers;
pub use histogram::Histogram;
pub use limited::{Refused, RefusedPrefixes};
pub use responders::{Responder, ResponderIndex, Responders};
pub use roles::{GatewayCounters, ReplicaCounters, SwitchCounters};
pub use sightings::{Seen, Sighting, Sightings};

/// A counter with a single writer: a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the counter. Only its single writer may call this.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Sets the counter. Only its single writer may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Returns the value. Any thread may call this.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    (
        $(#[$meta:meta])*
        $type:ident { $($name:ident $roles:ident $text:literal $unit:literal $doc:literal;)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $(#[doc = $doc] $name,)* }

        impl $type {
            /// All counters of this kind, in the order of their indices.
            pub const ALL: [$type; [$($text),*].len()] = [$($type::$name),*];

            /// Returns the counter's name.
            pub fn name(self) -> &'static str {
                match self { $($type::$name => $text,)* }
            }

            /// Returns the roles that have this counter.
            pub fn roles(self) -> Roles {
                match self { $($type::$name => Roles::$roles,)* }
            }

            /// Returns the unit, such as "packets".
            pub fn unit(self) -> &'static str {
                match self { $($type::$name => $unit,)* }
            }

            /// Returns the meaning, in one line for an operator.
            pub fn meaning(self) -> &'static str {
                match self { $($type::$name => $doc,)* }
            }
        }
    };
}

counters! {
    /// Packets that the appliance generates.
    Generated {
        Reset GATEWAY "resets" "packets" "resets sent to losers (op 514)";
        Challenge GATEWAY "challenges" "packets" "resets beyond the next number, sent to clients whose entry may be lost: who has the connection answers";
        LostReset TRANSLATORS "lost_resets" "packets" "resets sent to both ends of connections whose entry is lost, or is given up at the end";
        Copy SWITCH "copies" "packets" "tunnelled copies of SYNs, sent to replicas (op 312)";
        DirectCopy GATEWAY "direct_copies" "packets" "tunnelled copies of SYNs, sent to replicas directly";
        DeferredSyn GATEWAY "deferred_syns" "packets" "SYNs sent to the origin after `origin_after`";
        HeldSynAck GATEWAY "held_syn_acks" "packets" "SYN/ACKs that won after they had waited for their handicap";
        IcmpCopy SWITCH "icmp_copies" "packets" "tunnelled copies of ICMP errors, sent to replicas";
        TooBig ALL "icmp_too_big" "packets" "ICMP errors sent to senders of packets larger than a tunnel's inner MTU";
        Fragment ALL "fragments" "packets" "fragments of packets larger than a tunnel's inner MTU";
        TunnelProbe SWITCH "tunnel_probes" "packets" "probes of tunnels to replicas";
        ProbeAnswer REPLICA "probe_answers" "packets" "answers to probes of tunnels";
        NeighbourProbe SERVER_SIDE "neighbour_probes" "packets" "ARP requests and neighbour solicitations for servers' MAC addresses";
        NeighbourReply SERVER_SIDE "neighbour_replies" "packets" "ARP replies and neighbour advertisements for addresses of the appliance";
        Released SERVER_SIDE "released" "packets" "pending packets sent once their server's MAC address was known";
    }
}

counters! {
    /// Counters that are single numbers.
    Scalar {
        MssClamped ALL "mss_clamped" "packets" "SYNs and SYN/ACKs whose MSS was lowered to fit a tunnel";
        PendingDropped SERVER_SIDE "pending_dropped" "packets" "pending packets dropped because the MAC address stayed unknown or the pool was empty";
        TagBackoffs GATEWAY "tag_backoffs" "times" "backed off from a destination whose path drops tagged SYNs: its SYNs stay untagged for a while, up to `tag_backoff`";
        OriginSpared GATEWAY "origin_spared" "SYNs" "SYNs that waited for `origin_after` and were dropped because a replica had won";
        EndsIgnored GATEWAY "ends_ignored" "packets" "FINs and RSTs, passed on, whose sequence number or checksum was wrong: they changed nothing";
        ReportsLost GATEWAY "reports_lost" "reports" "reports of races that the memory did not get because its queue was full";
        CopiesFailed TUNNEL_HEADS "copies_failed" "copies" "copies not made for want of a buffer";
        FanOutTotal SWITCH "fan_out_total" "SYNs" "SYNs without copies because `fan_out_total` was used up by all prefixes together";
        EpochMismatch SERVER_SIDE "epoch_mismatch" "SYNs" "tagged SYNs, of those that were examined, whose signature is right but for its time: clocks differ";
        DirectCopies REPLICA "direct_copies" "copies" "SYN copies accepted that a gateway had sent directly";
        SynAckRepairs REPLICA "syn_ack_repairs" "packets" "repeated SYN/ACKs that passed before the client was heard, so that the server can speak first";
        HandedOff ALL "handed_off" "packets" "packets handed to the worker that owns their client";
        TakenFromWorkers ALL "taken_from_workers" "packets" "packets taken from other workers";
    }
}

/// Counters go on from the values of others.
fn continue_all<'a>(
    own: impl IntoIterator<Item = &'a Counter>,
    earlier: impl IntoIterator<Item = &'a Counter>,
) {
    for (own, earlier) in own.into_iter().zip(earlier) {
        own.set(earlier.get());
    }
}

/// Counters of replicas or servers go on from the values that these had before a reload.
fn continue_members(own: &[Counter], before: &[Counter], earlier: &EarlierNumbers) {
    for (number, counter) in own.iter().enumerate() {
        if let Some(before) = earlier.of(number).and_then(|number| before.get(number)) {
            counter.set(before.get());
        }
    }
}

/// The counters of one worker for one side.
///
/// # Examples
/// The verdicts whose packets are dropped, by name:
///
/// ```
/// use pipeline::counters::SideCounters;
/// use pipeline::verdict::{Fate, Verdict};
///
/// let side = SideCounters::default();
/// side.received.add(3);
/// side.verdicts[Verdict::ToReplica as usize].add(2);
/// side.verdicts[Verdict::NoBuffer as usize].add(1);
///
/// let dropped = Verdict::ALL.iter().filter(|verdict| verdict.fate() == Fate::Dropped);
/// let seen: Vec<_> = dropped
///     .filter(|verdict| side.verdicts[**verdict as usize].get() > 0)
///     .map(|verdict| verdict.name())
///     .collect();
/// assert_eq!(seen, ["no_buffer"]);
/// assert_eq!((side.fate(Fate::Forwarded), side.fate(Fate::Dropped)), (2, 1));
/// ```
#[derive(Debug)]
pub struct SideCounters {
    /// Packets received.
    pub received: Counter,
    /// Received packets by verdict.
    pub verdicts: [Counter; Verdict::COUNT],
    /// Packets that the port accepted.
    pub sent: Counter,
    /// Packets that the port did not accept.
    pub unsent: Counter,
}

impl Default for SideCounters {
    fn default() -> Self {
        Self {
            received: Counter::default(),
            verdicts: std::array::from_fn(|_| Counter::default()),
            sent: Counter::default(),
            unsent: Counter::default(),
        }
    }
}

impl SideCounters {
    fn continue_from(&self, earlier: &Self) {
        let Self { received, verdicts, sent, unsent } = self;
        continue_all(verdicts, &earlier.verdicts);
        let single = [(received, &earlier.received), (sent, &earlier.sent)];
        let single = single.into_iter().chain([(unsent, &earlier.unsent)]);
        single.for_each(|(own, earlier)| own.set(earlier.get()));
    }

    /// Returns the number of packets with this fate.
    pub fn fate(&self, fate: Fate) -> u64 {
        Verdict::ALL
            .iter()
            .filter(|verdict| verdict.fate() == fate)
            .map(|verdict| self.verdicts[*verdict as usize].get())
            .sum()
    }
}

/// Gauges and counters of a translation table.
#[derive(Debug, Default)]
pub struct TableCounters {
    /// The most connections that the table can store.
    pub capacity: Counter,
    /// Connections in the table, by state, in the order of the role's state names.
    pub live: [Counter; crate::table::QUEUES],
    /// Entries inserted.
    pub inserted: Counter,
    /// Entries evicted to make space for new ones.
    pub evicted: Counter,
    /// Those of them that were idle, and whose client prefix had its share of the table.
    pub evicted_for_share: Counter,
    /// Entries not inserted because the client's prefix had its share of the table.
    pub refused_by_share: Counter,
    /// Entries removed because their time-out had passed.
    pub expired: Counter,
}

impl TableCounters {
    fn all(&self) -> impl Iterator<Item = &Counter> {
        let Self {
            capacity,
            live,
            inserted,
            evicted,
            evicted_for_share,
            refused_by_share,
            expired,
        } = self;
        let events = [inserted, evicted, evicted_for_share, refused_by_share, expired];
        live.iter().chain([capacity]).chain(events)
    }
}

/// The counters that every role has.
#[derive(Debug, Default)]
pub struct CommonCounters {
    /// The counters by side: of reception for `received` and `verdicts`, of transmission for `sent`
    /// and `unsent`.
    pub sides: [SideCounters; 2],
    /// Packets generated by the appliance, by [`Generated`].
    pub generated: [Counter; Generated::ALL.len()],
    /// Single counters, by [`Scalar`].
    pub scalars: [Counter; Scalar::ALL.len()],
    /// The table of IPv4 connections.
    pub table: TableCounters,
    /// The table of IPv6 connections.
    pub table_v6: TableCounters,
    /// What tells of a mistake in the cabling or in a configuration.
    pub sightings: Sightings,
}

impl CommonCounters {
    /// Returns the counters of one family's table.
    #[inline]
    pub fn table_of(&self, version: Version) -> &TableCounters {
        match version {
            Version::V4 => &self.table,
            Version::V6 => &self.table_v6,
        }
    }

    /// Returns the counters of one side.
    #[inline]
    pub fn side(&self, side: Side) -> &SideCounters {
        &self.sides[side as usize]
    }

    /// Returns a single counter.
    #[inline]
    pub fn scalar(&self, scalar: Scalar) -> &Counter {
        &self.scalars[scalar as usize]
    }

    /// Goes on from the values of the same worker before a reload. Called by that worker.
    fn continue_from(&self, earlier: &Self) {
        let Self { sides, generated, scalars, table, table_v6, sightings } = self;
        for (own, earlier) in sides.iter().zip(&earlier.sides) {
            own.continue_from(earlier);
        }
        continue_all(generated, &earlier.generated);
        continue_all(scalars, &earlier.scalars);
        continue_all(table.all(), earlier.table.all());
        continue_all(table_v6.all(), earlier.table_v6.all());
        sightings.continue_from(&earlier.sightings);
    }

    /// Counts a packet that the appliance generated.
    pub fn count_generated(&self, generated: Generated) {
        self.generated[generated as usize].add(1);
    }
}

/// The counters of one worker's role, as any thread reads them.
pub trait RoleCounters: Debug + Send + Sync {
    /// Returns the role, as a set of one.
    fn role(&self) -> Roles;

    /// Returns the counters that every role has.
    fn common(&self) -> &CommonCounters;

    /// Returns the responders of races, at a gateway.
    fn responders(&self) -> Option<&Responders> {
        None
    }

    /// Returns the destination that a gateway backed off from last. For the log only: while another
    /// one is being stored, the result may mix both addresses.
    fn last_backoff(&self) -> Option<IpAddr> {
        None
    }

    /// Returns the copies sent by a switch, by replica in the order of the configuration.
    fn copies(&self) -> &[Counter] {
        &[]
    }

    /// Returns the source prefixes whose SYNs got no copies at a switch because a limit was used up.
    fn limited(&self) -> Option<&RefusedPrefixes> {
        None
    }

    /// Returns the SYNs at a switch or a replica, by server in the order of the configuration.
    fn syns(&self) -> &[Counter] {
        &[]
    }
}

impl std::ops::Deref for dyn RoleCounters {
    type Target = CommonCounters;

    fn deref(&self) -> &CommonCounters {
        self.common()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_role_and_a_meaning() {
        for (index, scalar) in Scalar::ALL.into_iter().enumerate() {
            assert_eq!(scalar as usize, index);
            assert!(!scalar.meaning().is_empty() && scalar.roles().names().count() > 0);
        }
        for (index, generated) in Generated::ALL.into_iter().enumerate() {
            assert_eq!(generated as usize, index);
            assert_eq!(generated.unit(), "packets");
        }
    }
}
