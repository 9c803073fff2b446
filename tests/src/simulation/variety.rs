//! What a seed decides of tunnels, signatures, and what changes while connections are under way.

use pipeline::wire::tunnel::Format;

use super::address::{CLIENTS, ORIGIN, REPLICAS, Site};
use super::dice::Dice;
use super::plan::{Configuration, Family, MS, Nanos, ReplicaPlan, SECOND};

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
        dice: &mut Dice,
        (configuration, family): (Configuration, Family),
        narrowest: u16,
        replicas: usize,
    ) -> Self {
        let format = |dice: &mut Dice| dice.pick(&Format::ALL.map(|format| (1, format)));
        let mut of = |peers: [Site; 2]| Formats {
            usual: format(dice),
            own: dice.chance(300).then(|| (dice.size(peers[0], peers[1]), format(dice))),
        };
        let sites = [REPLICAS, REPLICAS + replicas.max(1) - 1];
        let formats = [of(sites), of(sites), of([CLIENTS, CLIENTS])];
        // No host takes less than 1280 bytes for the MTU of an IPv6 path (RFC 8201, section 4),
        // so that operators have to say what their tunnels have room for.
        let told = (configuration, family) == (Configuration::C, Family::V6) && narrowest < 1400;
        Self {
            formats,
            path_mtu: if told || dice.chance(500) { narrowest } else { 1500 },
            source: dice.pick(&[(5, Source::Service), (2, Source::Own), (3, Source::OtherFamily)]),
            probes: dice.chance(600),
        }
    }
}

impl Signing {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let at = dice.between(0, 6 * SECOND);
        let after = dice.chance(300).then(|| dice.between(0, 3 * SECOND));
        dice.pick(&[
            (50, Signing::Not),
            (4, Signing::Missing { switch: true }),
            (4, Signing::Missing { switch: false }),
            (25, Signing::Signed),
            (17, Signing::Rotated { at, after }),
        ])
    }
}

impl Strangers {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        dice.pick(&[
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
    dice: &mut Dice,
    origins: usize,
    replicas: &[ReplicaPlan],
) -> Vec<(Nanos, Change)> {
    let mut changes = Vec::new();
    let when = |dice: &mut Dice| {
        let latest = dice.pick(&[(1, SECOND), (1, 12 * SECOND)]);
        dice.between(10 * MS, latest)
    };
    for (number, replica) in replicas.iter().enumerate() {
        match dice.pick(&[(85, 0), (6, 1), (4, 2), (5, 3)]) {
            1 => changes.push((when(dice), Change::Turnabout(number))),
            2 => changes.push((when(dice), Change::Dies(number))),
            3 => {
                let server = dice.size(0, replica.servers - 1);
                let at = when(dice);
                changes.push((at, Change::WebServer(number, server)));
                if dice.chance(500) {
                    changes.push((at + when(dice), Change::WebServer(number, server)));
                }
            }
            _ => {}
        }
    }
    if origins > 1 && dice.chance(400) {
        let (server, at) = (dice.size(0, origins - 1), when(dice));
        changes.push((at, Change::Origin(server)));
        if dice.chance(500) {
            changes.push((at + when(dice), Change::Origin(server)));
        }
    }
    changes
}
