//! Long runs on a map: sites are points of a plane, a delay is a distance, and clients open one
//! connection after the other.
//!
//! All paths are shortest paths, so no way by the switch is shorter than the direct one, and one
//! replica's direct answer beats all others': the nearest. [`Truth`] says which that is at a time.

use super::address::{CLIENTS, ORIGIN, REPLICAS, Site};
use super::plan::{
    Behaviour, Closer, ConnectionPlan, Gate, GivesUp, MS, Nanos, PATIENT, Path, Permits, Plan,
    Reach, ReplicaPlan, SECOND, Start,
};
use super::racing::Racing;
use super::rng::Rng;
use super::variety::{Change, Signing, Strangers};
use super::world::CABLE;

/// Width and height of the plane, as a delay.
const PLANE: Nanos = 70 * MS;
/// The delay of the shortest path.
const LEAST: Nanos = MS;
/// How often a moving replica's delay changes.
const STEP: Nanos = SECOND;
/// The time-out of a client if there are liars: it gives up within the run.
const PATIENCE: Nanos = 8 * SECOND;

/// What happens to the replicas during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Nothing.
    Nothing,
    /// The nearest dies.
    NearestDies,
    /// The nearest is dead at first, and comes to life.
    NearestReturns,
    /// The farthest jumps to the clients.
    FarthestComes,
    /// The nearest jumps away.
    NearestLeaves,
    /// All replicas move slowly.
    AllDrift,
}

impl Events {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::NearestDies,
        Self::NearestReturns,
        Self::FarthestComes,
        Self::NearestLeaves,
        Self::AllDrift,
    ];
}

/// A run on a map.
#[derive(Clone, Debug)]
pub struct Metric {
    /// The seed of the map and of everything else.
    pub seed: u64,
    /// The number of replicas.
    pub replicas: usize,
    /// How many of them lie: the nearest ones.
    pub liars: usize,
    /// The number of connections.
    pub races: usize,
    /// The mean time between two connections.
    pub gap: Nanos,
    /// The policy.
    pub racing: Racing,
    /// Loss of all paths, per mille.
    pub loss: u64,
    /// The most copies of a SYN that the switch makes; `None`: one for each replica.
    pub max_copies: Option<usize>,
    /// Whether the switch stands elsewhere than the origin.
    pub far_switch: bool,
    /// What happens in the middle of the run.
    pub events: Events,
}

/// A point, in nanoseconds of delay from the plane's corner.
type Point = [f64; 2];

fn delay(one: Point, other: Point) -> Nanos {
    LEAST + (one[0] - other[0]).hypot(one[1] - other[1]) as Nanos
}

impl Metric {
    /// Draws a run with so many replicas.
    #[must_use]
    pub fn draw(seed: u64, replicas: usize, races: usize) -> Self {
        let rng = &mut Rng::new(seed ^ 0x6d65_7472_6963);
        Self {
            seed,
            replicas,
            liars: 0,
            races,
            gap: rng.pick(&[(1, 50 * MS), (2, 150 * MS), (1, 400 * MS)]),
            racing: Racing {
                explore: rng.size(0, 2) as u8,
                site_prefix: rng.pick(&[(3, [24, 64]), (1, [32, 128])]),
                lag: rng.pick(&[(1, 0), (2, 50 * MS)]),
                ..Racing::of(rng.size(1, 4) as u8)
            },
            loss: 0,
            max_copies: None,
            far_switch: rng.chance(300),
            events: Events::Nothing,
        }
    }

    /// Returns the time of the event in the middle of the run.
    #[must_use]
    pub fn middle(&self) -> Nanos {
        self.gap * self.races as u64 / 2
    }

    /// Returns the plan.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::draw(self.seed);
        let rng = &mut Rng::new(self.seed ^ 0x706c_616e_6573);
        let mut points: Vec<Point> = (0..3 + self.replicas).map(|_| point(rng)).collect();
        let origin = points.pop().unwrap_or_default();
        if !self.far_switch {
            points[ORIGIN] = origin;
        }
        let far = delay(points[ORIGIN], origin);
        plan.behind = if self.far_switch { far } else { CABLE };
        plan.paths = paths(&points, self.loss);
        plan.replicas = (0..self.replicas).map(|_| replica(rng)).collect();
        let mut nearest: Vec<_> = (0..self.replicas).collect();
        nearest.sort_by_key(|at| plan.paths[CLIENTS][REPLICAS + at].delay);
        for at in nearest.iter().take(self.liars) {
            plan.replicas[*at].behaviour = Behaviour::Lies;
        }
        plan.changes = self.changes(&points, &nearest, rng);
        plan.racing = self.racing.clone();
        (plan.clients, plan.services, plan.origins) = (3, 1, 1);
        (plan.origin, plan.permits) = (Behaviour::Serves, Permits::Any);
        (plan.table, plan.segmented, plan.corrupted) = (1 << 10, false, 0);
        (plan.buffers_left, plan.fan_out) = (usize::MAX, 1_000_000);
        plan.max_copies = self.max_copies.unwrap_or(self.replicas.max(1));
        plan.buffers = [4_000; 2];
        plan.strangers = Strangers::Nobody;
        if plan.signing != Signing::Signed {
            plan.signing = Signing::Not;
        }
        plan.tunnels.path_mtu = 1500;
        // Formats of one site name sites of the drawn plan.
        plan.tunnels.formats.iter_mut().for_each(|formats| formats.own = None);
        plan.connections = (0..self.races).map(|number| self.connection(number, rng)).collect();
        plan
    }

    fn connection(&self, number: usize, rng: &mut Rng) -> ConnectionPlan {
        ConnectionPlan {
            client: rng.size(0, 2),
            port: 40_000 + number as u16,
            service: 0,
            start: Start::Alone,
            // The appliances have found their neighbours by then.
            at: 2 * SECOND + self.gap * number as u64 + rng.between(0, self.gap / 2),
            request: rng.size(1, 100),
            response: rng.size(1, 300),
            think: 0,
            // A client that closes first keeps no socket of a server in TIME-WAIT.
            closer: rng.pick(&[(1, Closer::Client), (1, Closer::Half)]),
            patience: if self.liars > 0 { PATIENCE } else { PATIENT },
            gives_up: GivesUp::Closes,
            spoofed: None,
        }
    }

    fn changes(&self, points: &[Point], nearest: &[usize], rng: &mut Rng) -> Vec<(Nanos, Change)> {
        let at = 2 * SECOND + self.middle();
        let honest = &nearest[self.liars.min(nearest.len())..];
        let (Some(&first), Some(&last)) = (honest.first(), honest.last()) else {
            return Vec::new();
        };
        let to = |replica: usize, point: Point| Change::Moves {
            replica,
            to_clients: delay(point, points[CLIENTS]),
            to_origin: delay(point, points[ORIGIN]),
        };
        match self.events {
            Events::Nothing => Vec::new(),
            Events::NearestDies => vec![(at, Change::Dies(first))],
            Events::NearestReturns => vec![(0, Change::Dies(first)), (at, Change::Returns(first))],
            Events::FarthestComes => vec![(at, to(last, points[CLIENTS]))],
            Events::NearestLeaves => {
                let [x, y] = points[CLIENTS];
                vec![(at, to(first, [x + 1.5 * PLANE as f64, y]))]
            }
            Events::AllDrift => {
                let goals: Vec<_> = points.iter().map(|_| point(rng)).collect();
                let end = 2 * self.middle();
                let steps = (end / STEP).max(1);
                let step = |(n, at): (u64, usize)| {
                    let [from, to_point] = [points, &goals].map(|all| all[REPLICAS + at]);
                    let part = n as f64 / steps as f64;
                    let there =
                        [0, 1].map(|axis| from[axis] + part * (to_point[axis] - from[axis]));
                    (2 * SECOND + n * STEP, to(at, there))
                };
                let all = (1..=steps).flat_map(|n| (0..self.replicas).map(move |at| (n, at)));
                all.map(step).collect()
            }
        }
    }
}

fn point(rng: &mut Rng) -> Point {
    [rng.between(0, PLANE), rng.between(0, PLANE)].map(|at| at as f64)
}

fn paths(points: &[Point], loss: u64) -> Vec<Vec<Path>> {
    let path = |from: &Point, to: &Point| Path {
        delay: delay(*from, *to),
        jitter: 50_000,
        reorder: false,
        loss,
        duplicated: 0,
        drops_options: false,
        mtu: 1500,
    };
    points.iter().map(|from| points.iter().map(|to| path(from, to)).collect()).collect()
}

fn replica(rng: &mut Rng) -> ReplicaPlan {
    ReplicaPlan {
        servers: rng.pick(&[(3, 1), (1, 2)]),
        behaviour: Behaviour::Serves,
        gate: Gate::Open,
        reach: Reach::Mac,
        port: rng.chance(200).then_some(8080),
        has_vip: false,
        repeats: 0,
    }
}

/// What is true of a run's network, by time.
#[derive(Debug)]
pub struct Truth<'a> {
    plan: &'a Plan,
}

impl<'a> Truth<'a> {
    /// Returns what is true of a plan's network.
    #[must_use]
    pub fn of(plan: &'a Plan) -> Self {
        Self { plan }
    }

    /// Returns the time from a SYN at the gateway to the SYN/ACK of a site that is asked directly,
    /// or of the origin; `None` if the site is dead or lies.
    #[must_use]
    pub fn answer(&self, site: Site, at: Nanos) -> Option<Nanos> {
        if site == ORIGIN {
            return Some(2 * (self.plan.paths[CLIENTS][ORIGIN].delay + self.plan.behind));
        }
        if self.plan.replicas[site - REPLICAS].behaviour != Behaviour::Serves {
            return None;
        }
        let (mut delay, mut lives) = (self.plan.paths[CLIENTS][site].delay, true);
        for (_, change) in self.plan.changes.iter().filter(|(when, _)| *when <= at) {
            match *change {
                Change::Dies(replica) if REPLICAS + replica == site => lives = false,
                Change::Returns(replica) if REPLICAS + replica == site => lives = true,
                Change::Moves { replica, to_clients, .. } if REPLICAS + replica == site => {
                    delay = to_clients;
                }
                _ => {}
            }
        }
        lives.then_some(2 * delay)
    }

    /// Returns the sites that serve, the nearest first, with the time to their answers.
    #[must_use]
    pub fn contenders(&self, at: Nanos) -> Vec<(Nanos, Site)> {
        let sites = ORIGIN..self.plan.sites();
        let mut all: Vec<_> =
            sites.filter_map(|site| Some((self.answer(site, at)?, site))).collect();
        all.sort_unstable();
        all
    }

    /// Returns the place of a site among those that serve, from 1 on, among which all that are as
    /// near as the nearest are first.
    #[must_use]
    pub fn rank(&self, site: Site, at: Nanos) -> Option<usize> {
        let all = self.contenders(at);
        let own = all.iter().find(|(_, other)| *other == site)?.0;
        let (nearest, _) = *all.first()?;
        if is_tie(nearest, own) {
            return Some(1);
        }
        Some(1 + all.iter().filter(|(time, _)| *time < own).count())
    }
}

/// Answers that differ by less count as equally fast: what appliances and hosts need differs by as
/// much.
const TIE: Nanos = 2 * MS;

/// Returns whether a time counts as that of the nearest.
#[must_use]
pub fn is_tie(nearest: Nanos, other: Nanos) -> bool {
    other <= nearest + TIE.max(nearest / 20)
}
