//! An attacker as one more host of the network: what docs/security.md says of it, seed after seed.
//!
//! It stands outside, with an address of its own ([`outsider`]) and with forged sources, and inside,
//! as a client ([`insider`]) with its neighbours' addresses. What it does are [`Move`]s; a [`Scene`]
//! is a run with some of them, beside honest clients that go on opening connections.
//!
//! | file | subject |
//! |---|---|
//! | `scene` | the plan of a run: honest connections and the attack's course |
//! | `steps`, `floods`, `errors` | the moves, step by step |
//! | `packets` | forged packets |
//! | `senses` | what the attacker and the forged victims get |
//! | `judge` | the properties: nobody taken over, nobody lost, raced again within the bound |

mod errors;
mod floods;
pub mod judge;
mod packets;
pub mod scene;
mod senses;
mod steps;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{CLIENTS, Site, address};
use super::plan::{Family, Nanos};
use super::station::Frame;
pub use scene::Scene;

/// What the attacker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    /// From a port that an honest client will get (by NAT or DHCP): lets the outsider win, leaves,
    /// and the outsider keeps the entry young.
    Pin,
    /// Lets the outsider win connections of an insider, again and again: where any host may win it
    /// is remembered as a replica. It answers the SYNs that it then sees.
    Lure,
    /// Forged copies for ports that honest clients will use, and blind ACKs, at the replicas.
    PinAtReplicas,
    /// RST, FIN, ACK and SYN/ACK with wrong numbers, half of them with wrong checksums, against live
    /// connections at all appliances.
    Blind,
    /// SYNs from an insider's addresses, answered at once, never acknowledged.
    FillGateway,
    /// Whole handshakes of an insider, then silence.
    Handshakes,
    /// Nine SYNs of three endpoints within microseconds, again and again.
    BackOff,
    /// Tagged SYNs at the switch from more prefixes than it ever sees.
    RandomPrefixes,
    /// Tagged SYNs at the switch in the name of the honest clients' prefix.
    VictimPrefix,
    /// Forged copies at the replicas.
    Copies,
    /// The same, each with a blind ACK of a wrong checksum behind it.
    AcknowledgedCopies,
    /// Recorded SYNs and copies, at once and much later.
    Replays,
    /// "Too big" errors with forged quotes at gateway and switch.
    TooBig,
    /// Tagged SYNs of a forged signature on another VLAN of the switch.
    OtherVlan,
    /// Fragments of strangers, first and later ones.
    Fragments,
    /// SYN/ACKs to an insider from addresses that nobody has.
    Martians,
}

impl Move {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Pin,
        Self::Lure,
        Self::PinAtReplicas,
        Self::Blind,
        Self::FillGateway,
        Self::Handshakes,
        Self::BackOff,
        Self::RandomPrefixes,
        Self::VictimPrefix,
        Self::Copies,
        Self::AcknowledgedCopies,
        Self::Replays,
        Self::TooBig,
        Self::OtherVlan,
        Self::Fragments,
        Self::Martians,
    ];
}

/// A move at its time.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// What is done.
    pub does: Move,
    /// Its first step.
    pub at: Nanos,
    /// From one step to the next.
    pub gap: Nanos,
    /// How many steps.
    pub steps: u32,
}

impl Act {
    /// Returns the time of its last step.
    #[must_use]
    pub fn end(&self) -> Nanos {
        self.at + self.gap * Nanos::from(self.steps.saturating_sub(1))
    }
}

/// The attack of a run.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What is done.
    pub acts: Vec<Act>,
    /// Connections whose ports the attacker uses before.
    pub pinned: Vec<usize>,
    /// Whether the insider's prefix is that of the honest clients.
    pub is_neighbour: bool,
    /// Capacity of each table of switch and replicas.
    pub table: usize,
}

impl Attack {
    /// Returns the time of the last step.
    #[must_use]
    pub fn end(&self) -> Nanos {
        self.acts.iter().map(Act::end).max().unwrap_or(0)
    }

    /// Returns whether this is one of the moves.
    #[must_use]
    pub fn has(&self, does: Move) -> bool {
        self.acts.iter().any(|act| act.does == does)
    }
}

/// What the attacker has seen and sent.
#[derive(Debug, Default)]
pub struct Attacker {
    /// Bytes of its packets, without Ethernet headers.
    pub sent: u64,
    /// Bytes that left replicas and gateway towards forged sources.
    pub echoed: u64,
    /// Bytes of errors that it sent to the switch, and of their copies that left it.
    pub errors: [u64; 2],
    /// Copies of honest SYNs that left the switch, and SYNs that left a replica for its web server.
    pub copies: BTreeMap<SynAt, Times>,
    /// Honest clients' segments that reached it.
    pub heard: Vec<String>,
    /// Tagged SYNs that left the gateway, and copies that left the switch, with the site that they
    /// are for.
    recorded: Vec<(Site, Frame)>,
    /// The latest segment towards each honest client.
    talks: BTreeMap<SocketAddr, Talk>,
}

/// A client's SYN, told by its number, on its way to a replica: at the switch, or at the replica.
pub type SynAt = (SocketAddr, u32, Site, bool);

/// How often it has passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The first time.
    pub first: Nanos,
    /// How often in all.
    pub all: u64,
    /// How often when the signature of the first could not be valid any more.
    pub late: u64,
}

/// A connection as it is seen beside its client.
#[derive(Clone, Copy, Debug)]
struct Talk {
    server: SocketAddr,
    sequence: u32,
    acknowledgement: u32,
}

/// Number of the first address at the clients' site that no honest client has.
const FIRST_INSIDER: u8 = 60;

/// Returns the attacker's own address outside.
#[must_use]
pub fn outsider(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 66).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0x66).into(),
    }
}

/// Returns an address of the attacker inside: in the honest clients' prefix, or in another.
#[must_use]
pub fn insider(family: Family, is_neighbour: bool, number: u8) -> IpAddr {
    match (family, is_neighbour) {
        (_, true) => address(family, CLIENTS, FIRST_INSIDER + number),
        (Family::V4, false) => Ipv4Addr::new(172, 16, 77, FIRST_INSIDER + number).into(),
        (Family::V6, false) => {
            let last = u16::from(FIRST_INSIDER + number);
            Ipv6Addr::new(0x2001, 0xdb8, 0x177, 0, 0, 0, 0, last).into()
        }
    }
}

/// Returns whether the attacker is inside at this address.
#[must_use]
pub fn is_insider(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            matches!([a, b, c], [198, 18, 1] | [172, 16, 77]) && d >= FIRST_INSIDER
        }
        IpAddr::V6(address) => {
            let words = address.segments();
            let site = words[..2] == [0x2001, 0xdb8] && matches!(words[2], 0x100 | 0x177);
            site && words[7] >= u16::from(FIRST_INSIDER)
        }
    }
}

/// Returns an address in one of many prefixes that no honest host has.
#[must_use]
pub fn stranger(family: Family, number: u64) -> IpAddr {
    let [.., a, b] = number.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(10, a, b, 7).into(),
        Family::V6 => {
            let word = u16::from_be_bytes([a, b]);
            Ipv6Addr::new(0xfd00, 0, word, 0, 0, 0, 0, 7).into()
        }
    }
}

/// Returns whether this is the address of a [`stranger`].
#[must_use]
pub fn is_stranger(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[0] == 0xfd00,
    }
}

/// Returns whether no honest host has this address, and servers answer it like Linux.
#[must_use]
pub fn is_forged(address: IpAddr) -> bool {
    is_insider(address) || is_stranger(address)
}

/// Returns addresses that no packet may go to.
#[must_use]
pub fn martians(family: Family) -> Vec<IpAddr> {
    match family {
        Family::V4 => [[224, 0, 0, 1], [255; 4], [127, 0, 0, 1], [0; 4]].map(IpAddr::from).to_vec(),
        Family::V6 => {
            ["ff02::1", "::1", "::"].map(|text| text.parse().unwrap_or(outsider(family))).to_vec()
        }
    }
}
