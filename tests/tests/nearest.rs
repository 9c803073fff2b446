//! Who is fastest in the race of the patent, on the simulation's own clock: in a network where
//! nothing is lost and nobody else sends, the site whose SYN/ACK has the shortest way to the
//! gateway wins, among the origin and the replicas that are live and not busy. Tests with real TCP
//! cannot assert that, since there any packet may be late.
//!
//! `FIRSTACK_SEEDS` says how many seeds are run.

use firstack_tests::simulation::address::{CLIENTS, ORIGIN, REPLICAS, Site};
use firstack_tests::simulation::check;
use firstack_tests::simulation::client::Outcome;
use firstack_tests::simulation::plan::{
    Behaviour, Closer, Configuration, Family, Gate, GivesUp, MS, Nanos, Path, Permits, Plan, Reach,
    SECOND, Start,
};
use firstack_tests::simulation::racing::Racing;
use firstack_tests::simulation::rng::Rng;
use firstack_tests::simulation::variety::{Signing, Strangers};
use firstack_tests::simulation::world::World;

/// Seeds in a usual run of the tests.
const SEEDS: u64 = 600;
/// What appliances and hosts need for a packet is less than this, from the SYN to the SYN/ACK.
const HOSTS: Nanos = 12 * MS;
/// Connections of a run, one after the other.
const CONNECTIONS: usize = 4;

/// How the sites lie to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Map {
    /// Points in a plane: the delay is the distance. The switch stands beside the origin, so no way by
    /// a replica is shorter than the one to the origin and back: every replica would lose the
    /// patent's race. So the origin is silent, and replicas race with each other.
    Plane,
    /// The same, but packets between clients and origin take a detour: a crooked network, and the
    /// only one in which a replica wins the patent's race although the switch stands beside the
    /// origin.
    Detour,
}

fn honest(seed: u64, map: Map) -> Plan {
    let rng = &mut Rng::new(seed ^ 0x6e65_6172);
    let mut plan = Plan::draw(seed);
    plan.configuration =
        rng.pick(&[(1, Configuration::A), (1, Configuration::B), (1, Configuration::C)]);
    plan.family = rng.pick(&[(1, Family::V4), (1, Family::V6)]);
    let replica = plan.replicas.first().cloned();
    let replica =
        replica.unwrap_or_else(|| (1..).find_map(|n| Plan::draw(seed + n).replicas.pop()).unwrap());
    plan.replicas = vec![replica; rng.size(2, 3)];
    for replica in &mut plan.replicas {
        (replica.reach, replica.repeats, replica.port) = (Reach::Mac, 0, None);
        (replica.servers, replica.has_vip) = (1, false);
        replica.behaviour =
            rng.pick(&[(6, Behaviour::Serves), (1, Behaviour::Refuses), (1, Behaviour::Silent)]);
        replica.gate = rng.pick(&[(6, Gate::Open), (1, Gate::Dead), (1, Gate::Busy)]);
    }
    (plan.clients, plan.services, plan.origins) = (1, 1, 1);
    plan.origin = if map == Map::Plane { Behaviour::Silent } else { Behaviour::Serves };
    (plan.permits, plan.table, plan.segmented) = (Permits::Any, 64, false);
    (plan.corrupted, plan.buffers_left, plan.fan_out) = (0, usize::MAX, 1_000);
    (plan.signing, plan.strangers) = (Signing::Not, Strangers::Nobody);
    plan.changes.clear();
    plan.racing = Racing::of(0);
    plan.paths = paths(rng, 2 + plan.replicas.len(), map);
    let connection = plan.connections[0];
    plan.connections = vec![connection; CONNECTIONS];
    for (number, own) in plan.connections.iter_mut().enumerate() {
        (own.client, own.service, own.start) = (0, 0, Start::Alone);
        (own.port, own.at) = (40_000 + number as u16, (number as u64 + 1) * 10 * SECOND);
        (own.request, own.response, own.think) = (500, 2_000, 0);
        (own.closer, own.gives_up, own.spoofed) = (Closer::Server, GivesUp::Resets, None);
        own.patience = 500 * SECOND;
    }
    plan
}

/// Delays that are distances between points of a plane, 100 ms wide and high.
fn paths(rng: &mut Rng, sites: usize, map: Map) -> Vec<Vec<Path>> {
    let mut point = || [rng.between(0, 100), rng.between(0, 100)].map(|at| at as f64);
    let points: Vec<_> = (0..sites).map(|_| point()).collect();
    let delay = |from: Site, to: Site| {
        let [x, y] = [0, 1].map(|axis| points[from][axis] - points[to][axis]);
        let detour = map == Map::Detour && [from, to].iter().all(|site| *site < REPLICAS);
        (x.hypot(y) * MS as f64) as Nanos + MS + if detour { 120 * MS } else { 0 }
    };
    let path = |from: Site, to: Site| Path {
        delay: delay(from, to),
        jitter: 1_000,
        reorder: false,
        loss: 0,
        duplicated: 0,
        drops_options: false,
        mtu: 1500,
    };
    (0..sites).map(|from| (0..sites).map(|to| path(from, to)).collect()).collect()
}

/// Time from the SYN at the gateway to the SYN/ACK of a site.
fn answer_of(plan: &Plan, site: Site) -> Nanos {
    let way = |from: Site, to: Site| plan.paths[from][to].delay;
    match site {
        ORIGIN => way(CLIENTS, ORIGIN) + way(ORIGIN, CLIENTS),
        replica => way(CLIENTS, ORIGIN) + way(ORIGIN, replica) + way(replica, CLIENTS),
    }
}

/// The sites that answer a SYN by a SYN/ACK, the nearest first, with the time that it takes.
fn answers(plan: &Plan) -> Vec<(Nanos, Site)> {
    let serves = |site: &Site| match *site {
        ORIGIN => plan.origin == Behaviour::Serves,
        replica => {
            let replica = &plan.replicas[replica - REPLICAS];
            replica.gate == Gate::Open && replica.behaviour == Behaviour::Serves
        }
    };
    let sites = (ORIGIN..plan.sites()).filter(serves);
    let mut answers: Vec<_> = sites.map(|site| (answer_of(plan, site), site)).collect();
    answers.sort_unstable();
    answers
}

#[test]
fn the_nearest_live_replica_that_is_not_busy_wins() {
    let seeds = std::env::var("FIRSTACK_SEEDS").ok().and_then(|text| text.parse().ok());
    let (mut runs, mut by_origin, mut not_the_nearest_of_all) = (0, 0, 0);
    for seed in 0..seeds.unwrap_or(SEEDS) {
        for map in [Map::Plane, Map::Detour] {
            let plan = honest(seed, map);
            let answers = answers(&plan);
            // A dead heat says nothing.
            let [(first, winner), others @ ..] = &answers[..] else { continue };
            if others.first().is_some_and(|(second, _)| second - first < HOSTS) {
                continue;
            }
            let by_distance = |site: &Site| answer_of(&plan, *site);
            let nearest = (REPLICAS..plan.sites()).min_by_key(by_distance);
            not_the_nearest_of_all += u32::from(nearest != Some(*winner));
            by_origin += u32::from(*winner == ORIGIN);
            runs += 1;
            expect(plan, *winner, &answers);
        }
    }
    println!(
        "{runs} runs; the origin won {by_origin}, and in {not_the_nearest_of_all} the nearest \
         replica could not serve"
    );
    // Enough of each kind.
    if seeds.is_none() {
        assert!(runs > 500 && by_origin > 20 && not_the_nearest_of_all > 100);
    }
}

/// Runs a plan; one site has to win all its connections.
fn expect(plan: Plan, winner: Site, answers: &[(Nanos, Site)]) {
    let seed = plan.seed;
    let mut world = World::new(plan, false, None);
    let done = world.run();
    let wrong = check::check(&mut world, done);
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    for call in world.clients().flat_map(|client| &client.calls) {
        let Some(Outcome::Completed(server)) = call.outcome else {
            panic!("seed {seed}, connection {}: {:?}", call.id, call.outcome);
        };
        let site = world.servers().find(|one| one.number == server).map(|one| one.site);
        assert_eq!(site, Some(winner), "seed {seed}, connection {}: {answers:?}", call.id);
    }
}
