//! Counters that one worker writes and anyone may read.
//!
//! `received = forwarded + consumed + dropped` per side, and over both sides
//! `forwarded + generated = sent + unsent`, whenever the worker is at rest.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;

use crate::wire::family::Version;
use crate::base::time::Ticks;
use crate::verdict::{Fate, Verdict};
use crate::packet::view::Side;

/// A counter with a single writer: a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, by the one writer.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Sets, by the one writer.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Reads, by anyone.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets that the appliance makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated {
    /// A reset to a loser (op 514).
    Reset,
    /// A tunnelled copy of a start packet (op 312).
    Copy,
    /// A tunnelled copy of an ICMP error, for the replica that it concerns.
    IcmpCopy,
    /// An ICMP error to the sender of a packet that a tunnel has no room for.
    TooBig,
    /// A fragment of a packet that a tunnel has no room for.
    Fragment,
    /// A probe of the tunnel to a replica.
    TunnelProbe,
    /// The answer to one.
    ProbeAnswer,
    /// A probe for a server's MAC address, by ARP or neighbour discovery.
    ArpProbe,
    /// A reply for a tunnel address likewise.
    ArpReply,
    /// A packet that has waited for its server's MAC address.
    Released,
}

impl Generated {
    /// All of them, in the order of their counters.
    pub const ALL: [Generated; 10] = [
        Generated::Reset,
        Generated::Copy,
        Generated::IcmpCopy,
        Generated::TooBig,
        Generated::Fragment,
        Generated::TunnelProbe,
        Generated::ProbeAnswer,
        Generated::ArpProbe,
        Generated::ArpReply,
        Generated::Released,
    ];

    /// The counter's name.
    pub fn name(self) -> &'static str {
        match self {
            Generated::Reset => "resets",
            Generated::Copy => "copies",
            Generated::IcmpCopy => "icmp_copies",
            Generated::TooBig => "icmp_too_big",
            Generated::Fragment => "fragments",
            Generated::TunnelProbe => "tunnel_probes",
            Generated::ProbeAnswer => "probe_answers",
            Generated::Released => "released",
            Generated::ArpProbe => "arp_probes",
            Generated::ArpReply => "arp_replies",
        }
    }
}

/// What one worker counts on one side.
#[derive(Debug)]
pub struct SideCounters {
    /// Packets received.
    pub received: Counter,
    /// What became of them.
    pub verdicts: [Counter; Verdict::COUNT],
    /// Packets handed to the port.
    pub sent: Counter,
    /// Packets the port did not take.
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
    /// Packets that met this fate.
    pub fn fate(&self, fate: Fate) -> u64 {
        Verdict::ALL
            .iter()
            .filter(|verdict| verdict.fate() == fate)
            .map(|verdict| self.verdicts[*verdict as usize].get())
            .sum()
    }
}

/// Gauges and counters of the translation table.
#[derive(Debug, Default)]
pub struct TableCounters {
    /// Connections it can hold.
    pub capacity: Counter,
    /// Connections it holds, by state, in the order of the role's state names.
    pub live: [Counter; crate::table::QUEUES],
    /// Entries made.
    pub inserted: Counter,
    /// Oldest entries that had to make room for new ones.
    pub evicted: Counter,
    /// Entries whose time was up.
    pub expired: Counter,
}

/// What one worker counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// By the side that a packet came in by; sent and unsent by the side it left by.
    pub sides: [SideCounters; 2],
    /// Packets made by the appliance.
    pub generated: [Counter; Generated::ALL.len()],
    /// Packets handed to another worker, and taken from another.
    pub handed_off: Counter,
    /// Packets taken from other workers.
    pub taken_over: Counter,
    /// The table of IPv4.
    pub table: TableCounters,
    /// The table of IPv6.
    pub table_v6: TableCounters,
    /// SYNs and SYN/ACKs whose MSS was lowered to fit a tunnel (gateway, replica, switch).
    pub clamped: Counter,
    /// Packets that waited for a MAC address in vain (switch, replica).
    pub held_dropped: Counter,
    /// Destinations whose path drops tagged start packets (gateway).
    pub given_up: GivenUp,
    /// Who answers races, and how fast (gateway).
    pub answerers: Answerers,
    /// Copies sent by replica, in the order of the configuration (switch).
    pub copies: Box<[Counter]>,
    /// Copies that could not be made for want of a buffer (switch).
    pub copies_failed: Counter,
    /// Start packets by server, in the order of the configuration (switch, replica).
    pub starts: Box<[Counter]>,
}

impl Counters {
    /// Counters of a role with this many configured replicas and servers.
    pub fn new(replicas: usize, servers: usize) -> Self {
        let counters = |count| (0..count).map(|_| Counter::default()).collect();
        Self { copies: counters(replicas), starts: counters(servers), ..Self::default() }
    }

    /// The counters of one family's table.
    #[inline]
    pub fn table_of(&self, version: Version) -> &TableCounters {
        match version {
            Version::V4 => &self.table,
            Version::V6 => &self.table_v6,
        }
    }

    /// The counters of one side.
    #[inline]
    pub fn side(&self, side: Side) -> &SideCounters {
        &self.sides[side as usize]
    }

    /// Counts packets that the appliance made.
    pub fn made(&self, what: Generated) {
        self.generated[what as usize].add(1);
    }
}

/// How often a destination was left untagged for a while, and which was the last.
#[derive(Debug, Default)]
pub struct GivenUp {
    /// How often.
    pub count: Counter,
    /// The last one's address as IPv6, upper and lower half.
    last: [Counter; 2],
}

impl GivenUp {
    /// Counts one more.
    pub fn set_last(&self, server: IpAddr) {
        let bits = match server {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        }
        .to_bits();
        self.last[0].set((bits >> 64) as u64);
        self.last[1].set(bits as u64);
        self.count.add(1);
    }

    /// The last one. Read while another is being set it may be a mixture of both: it is for the
    /// log only.
    pub fn last(&self) -> IpAddr {
        let bits = u128::from(self.last[0].get()) << 64 | u128::from(self.last[1].get());
        IpAddr::from(bits.to_be_bytes()).to_canonical()
    }
}

/// Times from a start packet to an acknowledgement, in microseconds: eight buckets per octave,
/// so a bucket is at most an eighth wide of what it holds.
#[derive(Debug)]
pub struct Histogram([Counter; Histogram::BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Histogram {
    /// Buckets: up to 2^26 us, 67 s; what is longer falls into the last.
    pub const BUCKETS: usize = 24 * 8;

    fn bucket(micros: u64) -> usize {
        if micros < 8 {
            return micros as usize;
        }
        let octave = micros.ilog2() as usize;
        let eighth = (micros >> (octave - 3)) as usize & 7;
        ((octave - 2) * 8 + eighth).min(Self::BUCKETS - 1)
    }

    /// The shortest time that falls into a bucket, in microseconds.
    pub fn lower_bound(bucket: usize) -> u64 {
        if bucket < 8 {
            return bucket as u64;
        }
        (8 + bucket as u64 % 8) << (bucket / 8 - 1)
    }

    /// Adds one time.
    pub fn record(&self, elapsed: Ticks) {
        self.0[Self::bucket(elapsed.micros())].add(1);
    }

    /// The counts by bucket.
    pub fn counts(&self) -> [u64; Self::BUCKETS] {
        std::array::from_fn(|bucket| self.0[bucket].get())
    }
}

/// One server or replica that has answered a race of a service.
#[derive(Debug, Default)]
pub struct Answerer {
    name: OnceLock<(u16, IpAddr, bool)>,
    /// Races it won.
    pub won: Counter,
    /// Acknowledgements it sent too late; each was answered by a reset.
    pub lost: Counter,
    /// Time from the race's first start packet to each of its acknowledgements, won or lost; a
    /// loser that repeats its own, for want of the reset, counts again.
    pub times: Histogram,
}

impl Answerer {
    /// Service number, address, and whether it is the origin; `None` for what found no place.
    pub fn name(&self) -> Option<(u16, IpAddr, bool)> {
        self.name.get().copied()
    }
}

/// All that have answered, up to [`Answerers::LIMIT`]; the last place is for all the others.
#[derive(Debug)]
pub struct Answerers(Box<[Answerer]>);

impl Default for Answerers {
    fn default() -> Self {
        Self((0..Self::LIMIT).map(|_| Answerer::default()).collect())
    }
}

impl Answerers {
    /// Places, the last of which counts all that found none.
    pub const LIMIT: usize = 128;

    /// Those that have answered.
    pub fn iter(&self) -> impl Iterator<Item = &Answerer> {
        self.0.iter().filter(|answerer| answerer.won.get() + answerer.lost.get() > 0)
    }
}

/// The worker's own index into [`Answerers`].
#[derive(Debug)]
pub struct AnswererIndex {
    places: HashMap<(u16, IpAddr), usize>,
    /// Places taken by origins.
    origins: usize,
}

impl Default for AnswererIndex {
    fn default() -> Self {
        Self { places: HashMap::with_capacity(Answerers::LIMIT), origins: 0 }
    }
}

impl AnswererIndex {
    /// The place of this answerer, a new one when it has none yet.
    pub fn of<'a>(
        &mut self,
        all: &'a Answerers,
        service: u16,
        address: IpAddr,
        is_origin: bool,
    ) -> &'a Answerer {
        if let Some(&place) = self.places.get(&(service, address)) {
            return &all.0[place];
        }
        let place = self.places.len();
        let others = Answerers::LIMIT - 1;
        // A service may have any number of origins: they leave room for replicas.
        if place >= others || is_origin && self.origins >= Answerers::LIMIT / 2 {
            return &all.0[others];
        }
        self.origins += usize::from(is_origin);
        self.places.insert((service, address), place);
        let answerer = &all.0[place];
        // The place is new: nobody else has named it.
        let _ = answerer.name.set((service, address, is_origin));
        answerer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_ascend_and_hold_what_they_say() {
        for bucket in 0..Histogram::BUCKETS {
            assert_eq!(Histogram::bucket(Histogram::lower_bound(bucket)), bucket);
            assert!(
                bucket == 0 || Histogram::lower_bound(bucket) > Histogram::lower_bound(bucket - 1)
            );
        }
        assert_eq!(Histogram::bucket(u64::MAX), Histogram::BUCKETS - 1);
        assert_eq!(Histogram::bucket(40_000), Histogram::bucket(40_900));
    }

    #[test]
    fn answerers_beyond_the_limit_share_a_place() {
        let (all, mut index) = (Answerers::default(), AnswererIndex::default());
        for number in 0..300u32 {
            let address = IpAddr::from(number.to_be_bytes());
            index.of(&all, 0, address, false).won.add(1);
            index.of(&all, 0, address, false).won.add(1);
        }
        assert_eq!(all.iter().count(), Answerers::LIMIT);
        let (all, mut index) = (Answerers::default(), AnswererIndex::default());
        for number in 0..300u32 {
            index.of(&all, 0, IpAddr::from(number.to_be_bytes()), true).won.add(1);
        }
        index.of(&all, 0, [198, 51, 100, 10].into(), false).won.add(1);
        assert_eq!(all.iter().count(), Answerers::LIMIT / 2 + 2, "a replica has its place");
        let (all, mut index) = (Answerers::default(), AnswererIndex::default());
        for number in 0..300u32 {
            let address = IpAddr::from(number.to_be_bytes());
            index.of(&all, 0, address, false).won.add(2);
        }
        assert_eq!(all.iter().map(|a| a.won.get()).sum::<u64>(), 600);
        assert_eq!(all.iter().last().unwrap().name(), None);
    }
}
