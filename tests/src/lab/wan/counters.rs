//! What the emulator counts. Nothing it receives goes uncounted:
//!
//! - per port: `received` = `forwarded` + `neighbour` + `for_router` + `ttl_expired` +
//!   `no_route` + `malformed` + `ignored`;
//! - per pair: `offered` = `delivered` + `lost` + `queue_full` + `too_big` + `unresolved` +
//!   `under_way`;
//! - across: a port's `forwarded` + `generated` = the `offered` of the pairs that start there,
//!   and its `sent` - `sent_neighbour` = the `delivered` of the pairs that end there.

use serde::{Deserialize, Serialize};

/// Counters of one port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCounters {
    /// Frames received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets given to a link.
    pub forwarded: u64,
    /// ARP and neighbour discovery messages.
    pub neighbour: u64,
    /// Packets to one of the router's own addresses (echo requests are answered).
    pub for_router: u64,
    /// Packets whose TTL or hop limit ran out (answered by ICMP).
    pub ttl_expired: u64,
    /// Packets that no route leads anywhere (answered by ICMP).
    pub no_route: u64,
    /// Short frames, wrong header lengths, wrong IPv4 header checksums.
    pub malformed: u64,
    /// Frames for other stations or groups, and protocols other than IP and ARP.
    pub ignored: u64,
    /// ICMP messages of the router's own.
    pub generated: u64,
    /// Frames sent.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Of them, ARP and neighbour discovery messages.
    pub sent_neighbour: u64,
    /// Of the frames sent, those that the interface refused.
    pub send_failed: u64,
    /// Frames that the kernel dropped because the emulator did not read them in time.
    pub socket_dropped: u64,
    /// Frames too long for the receive buffer: offloads were left on. Not in `received`.
    pub truncated: u64,
}

/// Counters of one direction between two ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCounters {
    /// Packets that the router gave to this link.
    pub offered: u64,
    /// Packets sent at the far end.
    pub delivered: u64,
    /// Bytes of the frames sent at the far end.
    pub delivered_bytes: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets that found the queue full.
    pub queue_full: u64,
    /// Packets above the link's MTU (answered by ICMP).
    pub too_big: u64,
    /// Packets whose next hop did not answer ARP or neighbour discovery.
    pub unresolved: u64,
    /// Packets still waiting when this was read.
    pub under_way: u64,
}

/// One line of the report that `firstack-wan` prints when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ReportLine {
    /// One port.
    Port {
        /// Its name.
        name: String,
        /// Its counters.
        #[serde(flatten)]
        counters: PortCounters,
    },
    /// One direction between two ports.
    Pair {
        /// Name of the port where packets came in.
        from: String,
        /// Name of the port where packets left.
        to: String,
        /// Its counters.
        #[serde(flatten)]
        counters: PairCounters,
    },
}

/// All counters of an emulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(pub Vec<ReportLine>);

impl Report {
    /// Reads the JSON lines that [`Report::to_json_lines`] wrote; other lines are passed over.
    #[must_use]
    pub fn from_json_lines(text: &str) -> Self {
        Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// One JSON object per line.
    #[must_use]
    pub fn to_json_lines(&self) -> String {
        let lines = self.0.iter().filter_map(|line| serde_json::to_string(line).ok());
        lines.map(|line| line + "\n").collect()
    }

    /// Counters of a port; all zero when it is not there.
    #[must_use]
    pub fn port(&self, wanted: &str) -> PortCounters {
        let found = self.0.iter().find_map(|line| match line {
            ReportLine::Port { name, counters } if name == wanted => Some(*counters),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// Counters of a pair; all zero when it is not there.
    #[must_use]
    pub fn pair(&self, wanted_from: &str, wanted_to: &str) -> PairCounters {
        let found = self.0.iter().find_map(|line| match line {
            ReportLine::Pair { from, to, counters } if from == wanted_from && to == wanted_to => {
                Some(*counters)
            }
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// Checks the equations at the head of this file; `Err` names the first that fails.
    pub fn check_conservation(&self) -> Result<(), String> {
        for line in &self.0 {
            match line {
                ReportLine::Port { name, counters } => self.check_port(name, counters)?,
                ReportLine::Pair { from, to, counters: c } => {
                    let fates = c.delivered + c.lost + c.queue_full + c.too_big + c.unresolved;
                    equal(
                        &format!("pair {from} -> {to}: offered"),
                        c.offered,
                        fates + c.under_way,
                    )?;
                }
            }
        }
        Ok(())
    }

    fn check_port(&self, name: &str, c: &PortCounters) -> Result<(), String> {
        let (mut offered, mut delivered) = (0, 0);
        for line in &self.0 {
            if let ReportLine::Pair { from, to, counters } = line {
                offered += if from == name { counters.offered } else { 0 };
                delivered += if to == name { counters.delivered } else { 0 };
            }
        }
        let kept = c.neighbour + c.for_router + c.ttl_expired + c.no_route;
        let fates = c.forwarded + kept + c.malformed + c.ignored;
        equal(&format!("port {name}: received"), c.received, fates)?;
        equal(&format!("port {name}: forwarded + generated"), c.forwarded + c.generated, offered)?;
        equal(&format!("port {name}: sent"), c.sent, delivered + c.sent_neighbour)
    }
}

fn equal(what: &str, left: u64, right: u64) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what} is {left}, its parts are {right}")) }
}
