//! The distribution of packets over the workers: the hash that both ports compute, the worker that owns
//! each client, and who steers the packets of each port and family.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pipeline::packet::view::Side;
use pipeline::wire::family::Version;

use super::Error;
use super::ports::Opened;
use crate::datapath::rss::toeplitz::Toeplitz;
use crate::datapath::rss::words::{LEAST_BITS, MOST_BITS};
use crate::datapath::rss::{self, RetaMap, RssCheck};
use crate::dpdk::{OneAddress, Port, Rss, RssField, RssOffer};

/// The bits of a hash that index a table which is long enough.
const USUAL_BITS: u32 = 7;

/// The way in which a port's packets of one family are distributed over the workers.
#[derive(Clone, Debug)]
enum Steering {
    /// Not distributed: there is a single worker.
    None,
    /// The port, until a packet arrives on the wrong queue; then this flag is set.
    Hardware(Arc<AtomicBool>),
    /// The workers, for this reason.
    Software(&'static str),
}

/// The way in which a port's packets are distributed over the workers, by family.
#[derive(Clone, Debug)]
pub(super) struct PortSteering {
    families: [Steering; 2],
    /// Whether the port marks the packets that it has hashed.
    marks: bool,
}

impl PortSteering {
    /// Returns the steering of a port with a single worker.
    pub(super) fn none() -> Self {
        Self { families: [Steering::None, Steering::None], marks: false }
    }

    /// Returns whether the port distributes the packets of a family.
    pub(super) fn is_by_hardware(&self) -> bool {
        self.families.iter().any(|family| matches!(family, Steering::Hardware(_)))
    }

    /// Returns the mode and its reason in words; the reason of `hardware` is empty.
    pub(super) fn text(&self, family: Version) -> (&'static str, &'static str) {
        match &self.families[family as usize] {
            Steering::None => ("none", "single worker"),
            Steering::Hardware(mismatch) if mismatch.load(Relaxed) => {
                ("software", "packets arrived on other queues than the port's hash implies")
            }
            Steering::Hardware(_) => ("hardware", ""),
            Steering::Software(why) => ("software", why),
        }
    }

    /// Returns a new check for one of the port's queues.
    pub(super) fn rss_check(&self) -> RssCheck {
        let mismatch = |steering: &Steering| match steering {
            Steering::Hardware(mismatch) => Some(Arc::clone(mismatch)),
            _ => None,
        };
        RssCheck::on_trial(self.marks, self.families.each_ref().map(mismatch))
    }
}

/// What the two ports are asked to hash, decided before they are configured.
pub(super) struct Hashing {
    fields: [RssField; 2],
    offers: [RssOffer; 2],
    /// The word of the process before.
    kept: Option<u32>,
    bits: u32,
    pub(super) hash: Toeplitz,
}

impl Hashing {
    /// Chooses one address alone if each port that can distribute packets at all can hash it, for then
    /// both families are steered; else the key.
    pub(super) fn choose(
        ports: [&Port; 2],
        fields: [RssField; 2],
        workers: usize,
        kept: Option<u32>,
    ) -> Result<Self, crate::dpdk::Error> {
        let offers = [ports[0].rss_offer(fields[0])?, ports[1].rss_offer(fields[1])?];
        Ok(Self::of_offers(offers, fields, workers, kept))
    }

    fn of_offers(
        offers: [RssOffer; 2],
        fields: [RssField; 2],
        workers: usize,
        kept: Option<u32>,
    ) -> Self {
        let bits = bits(offers.map(|offer| offer.entries), workers);
        let mut distributing = offers.iter().filter(|offer| offer.entries > 0).peekable();
        let all_can = distributing.peek().is_some()
            && distributing.all(|offer| !matches!(offer.one_address, OneAddress::No(_)));
        let hash = match all_can {
            true => kept
                .and_then(Toeplitz::of_one_address_kept)
                .unwrap_or_else(|| Toeplitz::of_one_address(random)),
            false => by_key(bits, kept),
        };
        Self { fields, offers, kept, bits, hash }
    }

    /// Returns what a port is asked for.
    pub(super) fn rss(&self, side: Side) -> Rss<'_> {
        let field = self.fields[side as usize];
        let key = match field {
            RssField::Source => self.hash.source_key(),
            RssField::Destination => self.hash.destination_key(),
        };
        let by_functions = self.offers[side as usize].one_address == OneAddress::Functions;
        Rss { key, field, one_address: self.hash.is_of_one_address() && by_functions }
    }

    /// Sets the flow rules that make started ports hash one address alone. If a port refuses, goes back to
    /// the key on both.
    pub(super) fn set_rules(&mut self, ports: &mut [Opened; 2]) -> Result<(), Error> {
        let mut refused = false;
        for (opened, side) in ports.iter_mut().zip(Side::ALL) {
            let offer = &mut self.offers[side as usize];
            let is_used = self.hash.is_of_one_address() && opened.report.rss.verified;
            if !is_used || refused || offer.one_address != OneAddress::Rules {
                continue;
            }
            let device = opened.port.device().to_owned();
            match opened.port.hash_one_address(self.fields[side as usize]) {
                Ok(()) => tracing::info!(side = side.name(), device, "flow rules set"),
                Err(why) => {
                    tracing::info!(side = side.name(), device, %why, "flow rules refused");
                    offer.one_address = OneAddress::No("the port refused a flow rule");
                    refused = true;
                }
            }
        }
        if !refused {
            return Ok(());
        }
        self.hash = by_key(self.bits, self.kept);
        for (opened, side) in ports.iter_mut().zip(Side::ALL) {
            if opened.report.rss.verified {
                let report = opened.port.set_rss(self.rss(side));
                opened.report.rss = report.map_err(|source| Error::Port { side, source })?;
            }
        }
        Ok(())
    }

    /// Returns why a port cannot place packets of a family.
    fn obstacle(&self, side: Side, family: Version) -> Result<(), &'static str> {
        if self.hash.is_computed_by_ports(family) {
            return Ok(());
        }
        match self.offers[side as usize].one_address {
            OneAddress::No(why) => Err(why),
            _ => Err("the other port cannot hash one address alone"),
        }
    }

    /// Decides which worker owns which client, gives the ports a matching table where they accept one,
    /// and logs for each port who distributes its packets.
    pub(super) fn steer_ports(&self, ports: &mut [Opened; 2], workers: usize) -> RetaMap {
        let workers = workers.max(1) as u16;
        let shortest = |opened: &Opened| {
            let entries = opened.report.rss.entries;
            let counts = opened.report.rss.verified && entries.is_power_of_two();
            (counts && entries >= workers).then_some(entries)
        };
        // A port with more entries repeats those of the shortest table.
        let entries = ports.iter().filter_map(shortest).min().unwrap_or(rss::ENTRIES);
        let reta = RetaMap::new(workers, entries, self.hash.clone());
        for (opened, side) in ports.iter_mut().zip(Side::ALL) {
            let table = set_table(opened, side, workers, &reta);
            let steering = |family| {
                let usable = opened.report.rss.hashes(family);
                match usable.and_then(|()| self.obstacle(side, family)).and(table) {
                    _ if workers == 1 => Steering::None,
                    Ok(()) => Steering::Hardware(Arc::default()),
                    Err(why) => Steering::Software(why),
                }
            };
            let families = [Version::V4, Version::V6].map(steering);
            opened.steering = PortSteering { families, marks: opened.report.rss.marks };
            let (mode, reason) = opened.steering.text(Version::V4);
            let (mode_v6, reason_v6) = opened.steering.text(Version::V6);
            let device = opened.port.device();
            tracing::info!(
                side = side.name(),
                device,
                mode,
                reason,
                mode_v6,
                reason_v6,
                "RSS steering"
            );
        }
        reta
    }
}

/// Gives a port its table; says why it cannot have it.
fn set_table(
    opened: &mut Opened,
    side: Side,
    workers: u16,
    reta: &RetaMap,
) -> Result<(), &'static str> {
    let rss = &opened.report.rss;
    if workers == 1 || !rss.verified {
        return Err(rss.note.unwrap_or("not verified"));
    }
    if opened.report.rx_queues != workers {
        return Err("fewer receive queues than workers");
    }
    let entries = rss.entries;
    if !entries.is_power_of_two() {
        return Err("the size of the port's RSS table is not a power of two");
    }
    if entries < workers {
        return Err("fewer RSS table entries than workers");
    }
    let table =
        reta.port_table(entries).ok_or("the port's RSS table is shorter than 64 entries")?;
    match opened.port.set_table(&table) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the port did not accept the RSS table"),
        Err(error) => {
            tracing::debug!(side = side.name(), %error, "cannot set RSS table");
            Err("the port has no settable RSS table")
        }
    }
}

/// Returns the hash by the key, under the word of the process before if it fits: then each client stays
/// with its worker.
fn by_key(bits: u32, kept: Option<u32>) -> Toeplitz {
    let kept = kept.and_then(|word| Toeplitz::by_kept_key(bits, word));
    kept.unwrap_or_else(|| Toeplitz::by_key(bits, random))
}

fn random() -> u32 {
    RandomState::new().hash_one(0u8) as u32
}

/// Returns how many bits index tables of these lengths, some of which may be of no use: as many as the
/// shortest allows, up to those that give each worker four entries or more, and at least 128 in all.
fn bits(tables: [u16; 2], workers: usize) -> u32 {
    let usable = |entries: &u16| entries.is_power_of_two() && *entries >= 1 << LEAST_BITS;
    let shortest = tables.into_iter().filter(usable).min().unwrap_or(rss::ENTRIES);
    let wanted = (workers * 4).next_power_of_two().ilog2().max(USUAL_BITS);
    wanted.min(shortest.ilog2()).clamp(LEAST_BITS, MOST_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANNOT: OneAddress = OneAddress::No("it is old");

    fn hashing(offers: [(u16, OneAddress); 2], kept: Option<u32>) -> Hashing {
        let offers = offers.map(|(entries, one_address)| RssOffer { entries, one_address });
        Hashing::of_offers(offers, [RssField::Source, RssField::Destination], 4, kept)
    }

    #[test]
    fn both_ports_hash_one_address_or_both_by_the_key() {
        let (functions, rules) = (OneAddress::Functions, OneAddress::Rules);
        for (offers, one_address) in [
            ([(128, functions), (512, functions)], true),
            ([(128, functions), (512, rules)], true),
            ([(128, functions), (512, CANNOT)], false),
            ([(128, CANNOT), (128, CANNOT)], false),
            // A port that cannot distribute packets does not matter.
            ([(128, functions), (0, CANNOT)], true),
            ([(0, CANNOT), (0, CANNOT)], false),
        ] {
            let hashing = hashing(offers, None);
            assert_eq!(hashing.hash.is_of_one_address(), one_address, "{offers:?}");
            let (inside, outside) = (hashing.rss(Side::Inside), hashing.rss(Side::Outside));
            assert_eq!(inside.key == outside.key, one_address);
            assert_eq!(inside.one_address, one_address && offers[0].1 == functions);
            assert_eq!(outside.one_address, one_address && offers[1].1 == functions);
            let v4 = Side::ALL.map(|side| hashing.obstacle(side, Version::V4));
            assert_eq!(v4, [Ok(()), Ok(())]);
            let v6 = hashing.obstacle(Side::Inside, Version::V6);
            assert_eq!(v6.is_ok(), one_address);
        }
        let mixed = hashing([(128, functions), (512, CANNOT)], None);
        let why = Side::ALL.map(|side| mixed.obstacle(side, Version::V6).unwrap_err());
        assert_eq!(why, ["the other port cannot hash one address alone", "it is old"]);
    }

    #[test]
    fn a_packet_in_the_wrong_queue_shows_in_its_family_alone() {
        let (v4, v6) = (Version::V4, Version::V6);
        let hardware = || Steering::Hardware(Arc::default());
        let port = PortSteering { families: [hardware(), hardware()], marks: true };
        let mut queues = [port.rss_check(), port.rss_check()];
        queues[1].record(v6, true);
        assert_eq!((port.text(v4), port.text(v6)), (("hardware", ""), ("hardware", "")));
        queues[1].record(v6, false);
        assert_eq!(port.text(v4).0, "hardware");
        assert_eq!(port.text(v6).0, "software");
        let why = Steering::Software("it is old");
        let port = PortSteering { families: [hardware(), why], marks: true };
        port.rss_check().record(v6, false);
        assert_eq!((port.text(v4).0, port.text(v6)), ("hardware", ("software", "it is old")));
        assert_eq!(PortSteering::none().text(v6), ("none", "single worker"));
    }

    #[test]
    fn the_word_of_the_process_before_is_used_if_it_fits() {
        let new = hashing([(128, CANNOT); 2], None);
        let word = new.hash.word();
        assert_eq!(hashing([(512, CANNOT); 2], Some(word)).hash.word(), word);
        assert_ne!(hashing([(128, CANNOT); 2], None).hash.word(), word);
        // A process with shorter tables, or one that hashes one address alone, draws another one.
        assert_ne!(hashing([(64, CANNOT); 2], Some(word)).hash.word(), word);
        let one = hashing([(128, OneAddress::Functions); 2], Some(word)).hash.word();
        assert_ne!(one, word);
        assert_eq!(hashing([(128, OneAddress::Functions); 2], Some(one)).hash.word(), one);
    }

    #[test]
    fn the_shortest_table_and_the_number_of_workers_decide_how_many_bits_count() {
        for (tables, workers, expected) in [
            ([128, 128], 4, 7),
            ([512, 2048], 4, 7),
            ([512, 64], 4, 6),
            ([0, 64], 2, 6),
            ([0, 0], 2, 7),
            ([32, 100], 2, 7),
            ([512, 2048], 33, 8),
            ([512, 2048], 200, 9),
            ([64, 2048], 64, 6),
        ] {
            assert_eq!(bits(tables, workers), expected, "{tables:?}, {workers} workers");
        }
    }
}
