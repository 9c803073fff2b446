//! What a gateway remembers of replicas, and its last races, as text and as JSON.

use std::fmt;
use std::net::IpAddr;

use super::{ShareStats, documented};

documented! {
    /// What a gateway remembers, or the last races of a client.
    pub struct MemoryAnswer {
        services: Vec<MemoryStats> = "" "The services of which something is known, by family.",
        races: Vec<RaceStats> = "" "The last races of the client that was asked for, the latest first.",
        share: Option<ShareStats> = "" "The store, if what was learned is shared; null in the answer about a client.",
    }
}

documented! {
    /// What a gateway remembers of one service and family.
    pub struct MemoryStats {
        service: String = "" "The service's name.",
        family: String = "" "IPv4 or IPv6.",
        races: u64 = "races" "Races that were reported.",
        state: String = "" "Why the switch is asked for as many copies as it is.",
        origin_us: Option<u64> = "microseconds" "Smoothed time to the origin's SYN/ACK; null before the first.",
        origin_won: u64 = "races" "Races that the origin won.",
        shadow_gain_us: Option<u64> = "microseconds" "Shadow: by how much the first replica was faster than the origin, the median.",
        shadow_races: u64 = "races" "Shadow: races in which a replica was faster than the origin.",
        sites: Vec<SiteStats> = "" "The sites: those that are asked directly in the order of their rank, then the others.",
    }
}

documented! {
    /// What a gateway remembers of one site.
    pub struct SiteStats {
        address: Option<IpAddr> = "" "The address R that is asked.",
        rank: Option<u64> = "" "The rank among the sites that are asked directly, from 1 on; null if it is not.",
        state: String = "" "asked, first copy, next trial, known, dead, distrusted (it answers SYNs and serves nothing), or never answered.",
        warm: bool = "" "Whether the configuration names it.",
        direct_us: Option<u64> = "microseconds" "Smoothed time to its answers to direct copies.",
        by_switch_us: Option<u64> = "microseconds" "Smoothed time to its answers to the switch's copies.",
        asked: u64 = "packets" "Direct copies that were sent to it.",
        answered: u64 = "packets" "SYN/ACKs that it sent, won or lost.",
        won: u64 = "races" "Races that it won; in a shadow, that it would have won.",
        share_per_mille: u64 = "per mille" "Its share of all races that were won.",
        heard_ms: Option<u64> = "milliseconds" "Time since its last answer; null if it never answered.",
    }
}

documented! {
    /// A race that was run lately.
    pub struct RaceStats {
        service: String = "" "The service's name.",
        client: String = "" "The client endpoint.",
        ago_ms: u64 = "milliseconds" "Time since its first SYN.",
        asked: Vec<String> = "" "The replicas that got a direct copy.",
        copies: String = "" "The copies that the switch was asked for: all, none, or a number.",
        why: String = "" "Why it was asked for so many.",
        shadow: bool = "" "Whether the service is a shadow, whose origin serves every connection.",
        answers: Vec<AnswerStats> = "" "The SYN/ACKs, in their order.",
    }
}

documented! {
    /// A SYN/ACK in a race.
    pub struct AnswerStats {
        responder: Option<IpAddr> = "" "The responder's address.",
        origin: bool = "" "Whether it is the origin.",
        direct: bool = "" "Whether it answered a direct copy.",
        won: bool = "" "Whether it won; in a shadow, whether it would have won.",
        after_us: u64 = "microseconds" "Time since the race's first SYN.",
    }
}

impl fmt::Display for MemoryAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.services.iter().try_for_each(|service| service.fmt(f))?;
        self.races.iter().try_for_each(|race| race.fmt(f))?;
        if self.services.is_empty() && self.races.is_empty() {
            writeln!(f, "nothing is remembered")?;
        }
        self.share.iter().try_for_each(|share| share.fmt(f))
    }
}

fn ms(micros: Option<u64>) -> String {
    micros.map_or_else(|| "-".to_owned(), |us| format!("{:.2}", us as f64 / 1000.0))
}

fn address(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "-".to_owned(), |address| address.to_string())
}

impl fmt::Display for MemoryStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, family, races, state, .. } = self;
        writeln!(f, "{service} {family}: {races} races; {state}")?;
        writeln!(
            f,
            "  {:<24} {:>4} {:>9} {:>9} {:>8} {:>8} {:>8} {:>6} {:>8}  state",
            "replica",
            "rank",
            "direct ms",
            "switch ms",
            "asked",
            "answered",
            "won",
            "share",
            "heard s"
        )?;
        for site in &self.sites {
            let rank = site.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
            let heard = site.heard_ms.map(|heard| format!("{:.1}", heard as f64 / 1000.0));
            writeln!(
                f,
                "  {:<24} {rank:>4} {:>9} {:>9} {:>8} {:>8} {:>8} {:>5.1}% {:>8}  {}{}",
                address(site.address),
                ms(site.direct_us),
                ms(site.by_switch_us),
                site.asked,
                site.answered,
                site.won,
                site.share_per_mille as f64 / 10.0,
                heard.as_deref().unwrap_or("never"),
                site.state,
                if site.warm { ", warm" } else { "" },
            )?;
        }
        writeln!(
            f,
            "  {:<24} {:>4} {:>9} {:>9} {:>8} {:>8} {:>8}",
            "origin",
            "",
            ms(self.origin_us),
            "",
            "",
            "",
            self.origin_won
        )?;
        if let Some(gain) = self.shadow_gain_us {
            let races = self.shadow_races;
            let gain = ms(Some(gain));
            writeln!(f, "  shadow: a replica was faster in {races} races, by {gain} ms (median)")?;
        }
        Ok(())
    }
}

impl fmt::Display for RaceStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, client, copies, why, .. } = self;
        writeln!(f, "{client} to {service}, {:.1} s ago", self.ago_ms as f64 / 1000.0)?;
        let asked = match self.asked.is_empty() {
            true => "nobody".to_owned(),
            false => self.asked.join(", "),
        };
        writeln!(
            f,
            "  asked directly: {asked}; copies asked of the switch: {copies}, because {why}"
        )?;
        for answer in &self.answers {
            let who = if answer.origin { "origin" } else { "replica" };
            let way = match (answer.origin, answer.direct) {
                (true, _) => "",
                (false, true) => ", asked directly",
                (false, false) => ", asked by the switch",
            };
            let result = match (self.shadow, answer.won, answer.origin) {
                (false, true, _) => "won",
                (false, false, _) => "lost, reset",
                (true, true, false) => "would have won, reset",
                (true, false, false) => "reset",
                (true, _, true) => "serves: the service is a shadow",
            };
            let (after, address) = (ms(Some(answer.after_us)), address(answer.responder));
            writeln!(f, "  {after:>9} ms  {who} {address}{way}: {result}")?;
        }
        if self.answers.is_empty() {
            writeln!(f, "  no answer yet")?;
        }
        Ok(())
    }
}
