//! What a seed decides of tunnels, signatures, and what changes while connections are under way.

use pipeline::wire::tunnel::Format;

use super::address::{CLIENTS, ORIGIN, REPLICAS, Site};
use super::plan::{Configuration, Family, MS, Nanos, ReplicaPlan, SECOND};
use super::rng::Rng;

/// Where the switch's tunnels to replicas come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The service's address.
    Service,
    /// An address of its own.
    Own,
    /// An address of its own, of the family that the service is not of.
    OtherFamily,
}

/// What one appliance knows of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// What it sends.
    pub usual: Format,
    /// What it sends to a site.
    pub own: Option<(Site, Format)>,
}

/// How packets are tunnelled.
#[derive(Clone, Debug)]
pub struct Tunnels {
    /// By gateway, switch and replicas.
    pub formats: [Formats; 3],
    /// The path MTU that all are told.
    pub path_mtu: u16,
    /// Where the switch's come from.
    pub source: Source,
    /// Whether the switch probes those to replicas.
    pub probes: bool,
}

/// How tags are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// Not at all.
    Not,
    /// Not at all, but switch or replicas require it.
    Missing {
        /// Whether it is the switch.
        switch: bool,
    },
    /// By a key that all know.
    Signed,
    /// By another key from then on: one that has been given to the others before, or not.
    Rotated {
        /// When the gateway changes over.
        at: Nanos,
        /// How long after that the others learn the new key, and forget the old one.
        after: Option<Nanos>,
    },
}

/// Whose clients' copies are made, and taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// All are welcome.
    Nobody,
    /// The clients' prefix is named.
    Others,
    /// The switch does not serve the clients' prefix.
    ToSwitch,
    /// The replicas do not.
    ToReplicas,
}

/// What happens while connections are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A replica is drained, or open again if it was.
    Turnabout(usize),
    /// The appliance of a replica dies.
    Dies(usize),
    /// One of a replica's web servers is down, or up again.
    WebServer(usize, usize),
    /// One of the origin's servers is given up, or is back.
    Origin(usize),
}

impl Tunnels {
    pub(super) fn draw(
        rng: &mut Rng,
        (configuration, family): (Configuration, Family),
        narrowest: u16,
        replicas: usize,
    ) -> Self {
        let format = |rng: &mut Rng| rng.pick(&Format::ALL.map(|format| (1, format)));
        let mut of = |peers: [Site; 2]| Formats {
            usual: format(rng),
            own: rng.chance(300).then(|| (rng.size(peers[0], peers[1]), format(rng))),
        };
        let sites = [REPLICAS, REPLICAS + replicas.max(1) - 1];
        let formats = [of(sites), of(sites), of([CLIENTS, CLIENTS])];
        // No host takes less than 1280 bytes for the MTU of an IPv6 path (RFC 8201, section 4),
        // so that operators have to say what their tunnels have room for.
        let told = (configuration, family) == (Configuration::C, Family::V6) && narrowest < 1400;
        Self {
            formats,
            path_mtu: if told || rng.chance(500) { narrowest } else { 1500 },
            source: rng.pick(&[(5, Source::Service), (2, Source::Own), (3, Source::OtherFamily)]),
            probes: rng.chance(600),
        }
    }
}

impl Signing {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let at = rng.between(0, 6 * SECOND);
        let after = rng.chance(300).then(|| rng.between(0, 3 * SECOND));
        rng.pick(&[
            (50, Signing::Not),
            (4, Signing::Missing { switch: true }),
            (4, Signing::Missing { switch: false }),
            (25, Signing::Signed),
            (17, Signing::Rotated { at, after }),
        ])
    }
}

impl Strangers {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        rng.pick(&[
            (70, Strangers::Nobody),
            (24, Strangers::Others),
            (3, Strangers::ToSwitch),
            (3, Strangers::ToReplicas),
        ])
    }

    /// The prefixes that the appliance of a site serves: of the clients, or of somebody else.
    pub(super) fn excludes(self, site: Site) -> Option<bool> {
        match self {
            Strangers::Nobody => None,
            Strangers::Others => Some(false),
            Strangers::ToSwitch => Some(site == ORIGIN),
            Strangers::ToReplicas => Some(site >= REPLICAS),
        }
    }
}

pub(super) fn changes(
    rng: &mut Rng,
    origins: usize,
    replicas: &[ReplicaPlan],
) -> Vec<(Nanos, Change)> {
    let mut changes = Vec::new();
    let when = |rng: &mut Rng| {
        let latest = rng.pick(&[(1, SECOND), (1, 12 * SECOND)]);
        rng.between(10 * MS, latest)
    };
    for (number, replica) in replicas.iter().enumerate() {
        match rng.pick(&[(85, 0), (6, 1), (4, 2), (5, 3)]) {
            1 => changes.push((when(rng), Change::Turnabout(number))),
            2 => changes.push((when(rng), Change::Dies(number))),
            3 => {
                let server = rng.size(0, replica.servers - 1);
                let at = when(rng);
                changes.push((at, Change::WebServer(number, server)));
                if rng.chance(500) {
                    changes.push((at + when(rng), Change::WebServer(number, server)));
                }
            }
            _ => {}
        }
    }
    if origins > 1 && rng.chance(400) {
        let (server, at) = (rng.size(0, origins - 1), when(rng));
        changes.push((at, Change::Origin(server)));
        if rng.chance(500) {
            changes.push((at + when(rng), Change::Origin(server)));
        }
    }
    changes
}
