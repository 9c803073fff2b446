//! Random tunnels, signatures, and changes during a run.

use pipeline::wire::tunnel::Format;

use super::address::{CLIENTS, ORIGIN, REPLICAS, Site};
use super::plan::{Configuration, Family, MS, Nanos, ReplicaPlan, SECOND};
use super::rng::Rng;

/// The source of the switch's tunnels to replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The service's address.
    Service,
    /// A separate address.
    Own,
    /// A separate address of the other family.
    OtherFamily,
}

/// The tunnel settings of an appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// The default format that it sends.
    pub usual: Format,
    /// The format that it sends to a site.
    pub own: Option<(Site, Format)>,
}

/// Tunnels of a run.
#[derive(Clone, Debug)]
pub struct Tunnels {
    /// By gateway, switch and replicas.
    pub formats: [Formats; 3],
    /// The configured path MTU.
    pub path_mtu: u16,
    /// The source of the switch's tunnels.
    pub source: Source,
    /// Whether the switch probes tunnels to replicas.
    pub probes: bool,
}

/// Signatures of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// Unsigned.
    Not,
    /// Unsigned, but switch or replicas require signatures.
    Missing {
        /// Whether the switch requires them, not the replicas.
        switch: bool,
    },
    /// Signed with a key that all have.
    Signed,
    /// Signed with a key that is changed during the run, before or after the others have the new
    /// one.
    Rotated {
        /// Time of the gateway's change.
        at: Nanos,
        /// Time from then until the others have the new key only.
        after: Option<Nanos>,
    },
}

/// The allowed clients of switch and replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// All clients.
    Nobody,
    /// The clients' prefix is listed.
    Others,
    /// The switch does not allow the clients' prefix.
    ToSwitch,
    /// The replicas do not allow it.
    ToReplicas,
}

/// A change during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A replica is drained, or undrained if it was drained.
    Turnabout(usize),
    /// The appliance of a replica dies.
    Dies(usize),
    /// It lives again, with what it had in its tables.
    Returns(usize),
    /// A replica moves: the delays of its paths change.
    Moves {
        /// The replica.
        replica: usize,
        /// The delay from and to the clients.
        to_clients: Nanos,
        /// The delay from and to the switch.
        to_origin: Nanos,
    },
    /// One of a replica's web servers goes down, or up again.
    WebServer(usize, usize),
    /// One of the origin's servers goes out of service, or back.
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
        // Hosts do not accept less than 1280 bytes as the MTU of an IPv6 path (RFC 8201, section
        // 4), so operators have to configure the path MTU of their tunnels.
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

    /// Returns whether a site's appliance lists allowed clients, and whether the list excludes the
    /// run's clients.
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
