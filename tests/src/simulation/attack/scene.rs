//! The plan of a run with an attacker: a quiet network, honest clients that open connections before,
//! during and after the attack, and its course.

use super::{Act, Attack, Move};
use crate::simulation::plan::{
    Behaviour, Closer, Configuration, ConnectionPlan, Family, Gate, GivesUp, MS, Nanos, PATIENT,
    Permits, Plan, Reach, SECOND, Start,
};
use crate::simulation::racing::Racing;
use crate::simulation::rng::Rng;
use crate::simulation::variety::{Signing, Source, Strangers};

/// The start of the attack.
pub const AT: Nanos = 10 * SECOND;
/// A replay in a later epoch begins so long after the attack's start.
pub const LATER: Nanos = 280 * SECOND;
/// No honest connection waits longer than this, after the last packet of the attack, to be raced
/// like any other: docs/security.md states it.
pub const BOUND: Nanos = 300 * SECOND;
/// Copies per second of each prefix at the switch, and as many saved up.
const COPIES: u64 = 200;
/// Live connections at which a replica is busy.
const BUSY: usize = 50;
/// Capacity of the gateway's table: it fills, or replicas get busy before.
const TABLES: [usize; 2] = [256, 1024];
/// Capacity of each other table. A table that overflows with half-open connections forgets whose
/// SYN/ACKs web servers repeat, and lets them pass.
const OTHERS: usize = 1 << 14;
/// The first port of honest connections.
pub const FIRST_PORT: u16 = 40_000;

/// A run with an attacker.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The seed of everything.
    pub seed: u64,
    /// What the attacker does.
    pub moves: Vec<Move>,
    /// Whether tags are signed, and switch and replicas require it.
    pub is_signed: bool,
    /// The replicas that the gateway accepts.
    pub permits: Permits,
    /// How many replicas it asks directly.
    pub direct: u8,
}

impl Scene {
    /// Draws a run in which the attacker does this.
    #[must_use]
    pub fn draw(seed: u64, moves: &[Move]) -> Self {
        let rng = &mut Rng::new(seed ^ 0x7363_656e_6573);
        let (is_signed, permits) =
            (rng.chance(500), rng.pick(&[(1, Permits::Any), (2, Permits::Sites)]));
        // Without signatures the last tag decides where probes go.
        let is_signed = is_signed || moves.contains(&Move::OtherVlan);
        let direct = match permits {
            // A host outside that an insider lets win would be asked directly: it would see the
            // others' SYNs, and could win their races.
            Permits::Any => 0,
            _ => rng.size(0, 2) as u8,
        };
        Self { seed, moves: moves.to_vec(), is_signed, permits, direct }
    }

    /// Returns the plan.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::draw(self.seed);
        let rng = &mut Rng::new(self.seed ^ 0x6174_7461_636b);
        plan.configuration =
            [Configuration::A, Configuration::B, Configuration::C][self.seed as usize % 3];
        plan.family = [Family::V4, Family::V6][self.seed as usize / 3 % 2];
        self.appliances(&mut plan, rng);
        paths(&mut plan);
        let acts: Vec<_> = self.moves.iter().flat_map(|does| acts(*does, rng)).collect();
        let mut attack =
            Attack { acts, pinned: Vec::new(), is_neighbour: rng.chance(500), table: OTHERS };
        plan.connections = connections(&mut attack, plan.clients, rng);
        plan.attack = Some(attack);
        plan
    }

    fn appliances(&self, plan: &mut Plan, rng: &mut Rng) {
        let replica = plan.replicas.first().cloned();
        let replica = replica.unwrap_or_else(|| {
            (1..).find_map(|n| Plan::draw(self.seed + n).replicas.pop()).unwrap()
        });
        plan.replicas = vec![replica; rng.size(1, 2)];
        for replica in &mut plan.replicas {
            (replica.gate, replica.behaviour) = (Gate::Limit(BUSY), Behaviour::Serves);
            (replica.reach, replica.repeats, replica.port) = (Reach::Mac, 0, None);
            (replica.servers, replica.has_vip) = (rng.size(1, 2), false);
        }
        (plan.clients, plan.services, plan.origins) = (rng.size(2, 3), 2, 1);
        (plan.origin, plan.permits) = (Behaviour::Serves, self.permits);
        (plan.table, plan.segmented, plan.corrupted) =
            (rng.pick(&TABLES.map(|size| (1, size))), false, 0);
        (plan.buffers_left, plan.fan_out) = (usize::MAX, COPIES);
        (plan.buffers, plan.timestamps) = ([8_000; 2], rng.chance(300));
        plan.signing = if self.is_signed { Signing::Signed } else { Signing::Not };
        plan.strangers = Strangers::Nobody;
        (plan.tunnels.source, plan.tunnels.probes) = (Source::Service, true);
        plan.tunnels.path_mtu = 1500;
        plan.tunnels.formats.iter_mut().for_each(|formats| formats.own = None);
        plan.racing = Racing::of(self.direct);
        plan.changes.clear();
    }
}

/// A network without loss, in which the way from the origin to the clients is a detour: replicas
/// win.
fn paths(plan: &mut Plan) {
    let mut path = plan.paths[0][1];
    (path.loss, path.duplicated, path.drops_options, path.mtu) = (0, 0, false, 1500);
    (path.delay, path.jitter, path.reorder) = (20 * MS, MS / 10, false);
    plan.paths = vec![vec![path; plan.sites()]; plan.sites()];
    plan.paths[1][0].delay = 90 * MS;
}

/// Returns the course of a move.
fn acts(does: Move, rng: &mut Rng) -> Vec<Act> {
    let at = AT + rng.between(0, SECOND);
    let every = |gap: Nanos, span: Nanos| Act { does, at, gap, steps: (span / gap) as u32 };
    let one = match does {
        Move::Pin | Move::PinAtReplicas => every(5 * SECOND, 110 * SECOND),
        Move::Blind => every(SECOND, 60 * SECOND),
        Move::Lure => every(500 * MS, 40 * SECOND),
        Move::FillGateway => every(60 * MS, 60 * SECOND),
        Move::Handshakes => every(300 * MS, 100 * SECOND),
        Move::BackOff => every(3 * SECOND, 60 * SECOND),
        // Dear: every SYN passes the switch. Both begin when honest connections do.
        Move::RandomPrefixes => Act { at: at + 4 * SECOND, ..every(SECOND / 4_000, 3 * SECOND) },
        Move::VictimPrefix => every(4 * MS, 8 * SECOND),
        Move::Copies | Move::AcknowledgedCopies => every(50 * MS, 100 * SECOND),
        Move::Replays => every(100 * MS, 40 * SECOND),
        Move::TooBig => every(50 * MS, 40 * SECOND),
        Move::OtherVlan => every(200 * MS, 40 * SECOND),
        Move::Fragments => every(20 * MS, 40 * SECOND),
        Move::Martians => every(500 * MS, 40 * SECOND),
    };
    match does {
        Move::Replays => vec![one, Act { at: at + LATER, steps: one.steps / 4, ..one }],
        _ => vec![one],
    }
}

/// Returns the honest connections in the order of their starts.
fn connections(attack: &mut Attack, clients: usize, rng: &mut Rng) -> Vec<ConnectionPlan> {
    let end = attack.end();
    let mut starts: Vec<(Nanos, Nanos)> = Vec::new();
    // Some live through most of the attack; the others are over soon.
    starts.extend((0..7u64).map(|n| (3 * SECOND + n * SECOND, 40 * SECOND * (n % 2))));
    starts.extend((0..12u64).map(|n| (AT + 3 * SECOND / 2 + n * SECOND / 2, 0)));
    starts.extend((0..8u64).map(|n| (AT + 10 * SECOND + n * 6 * SECOND, 4 * SECOND * (n % 2))));
    // Those of pinned ports.
    let pinned = starts.len();
    let is_pinned = attack.has(Move::Pin) || attack.has(Move::PinAtReplicas);
    starts.extend((0..4u64).map(|n| (AT + (20 + 25 * n) * SECOND, 0)).filter(|_| is_pinned));
    attack.pinned = (pinned..starts.len()).collect();
    starts.extend((0..8u64).map(|n| (end + BOUND + n * SECOND, 0)));
    let connection = |(number, (at, think)): (usize, &(Nanos, Nanos))| ConnectionPlan {
        client: number % clients,
        port: FIRST_PORT + number as u16,
        service: rng.size(0, 1),
        start: Start::Alone,
        at: at + rng.between(0, SECOND / 4),
        request: rng.size(1, 1_000),
        response: rng.pick(&[(3, 500), (1, 20_000)]),
        think: *think,
        closer: rng.pick(&[(1, Closer::Client), (1, Closer::Server), (1, Closer::Half)]),
        patience: PATIENT,
        gives_up: GivesUp::Resets,
        spoofed: None,
    };
    starts.iter().enumerate().map(connection).collect()
}
