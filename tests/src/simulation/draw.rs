//! Random parts of a plan: replicas, paths between sites, connections.

use super::address::{CLIENTS, ORIGIN};
use super::plan::{
    Behaviour, Closer, ConnectionPlan, Gate, GivesUp, MS, PATIENT, Path, Reach, ReplicaPlan,
    SECOND, Start,
};
use super::rng::Rng;

/// Draws a replica.
pub(super) fn replica(rng: &mut Rng) -> ReplicaPlan {
    let reach = rng.pick(&[(2, Reach::Mac), (2, Reach::Resolved), (1, Reach::Bears)]);
    let has_vip = rng.chance(200);
    ReplicaPlan {
        servers: if reach == Reach::Bears { 1 } else { rng.size(1, 2) },
        behaviour: rng.pick(&[
            (80, Behaviour::Serves),
            (10, Behaviour::Refuses),
            (10, Behaviour::Silent),
        ]),
        gate: rng.pick(&[
            (70, Gate::Open),
            (10, Gate::Dead),
            (10, Gate::Busy),
            (10, Gate::Limit(1)),
        ]),
        reach,
        port: if has_vip { None } else { rng.chance(200).then_some(8080) },
        has_vip,
        repeats: rng.pick(&[(8, 0), (2, 2)]),
    }
}

/// Draws the paths between the sites.
pub(super) fn paths(rng: &mut Rng, sites: usize) -> Vec<Vec<Path>> {
    let lossy = rng.chance(600);
    let twice = rng.chance(500);
    let reorders = rng.chance(500);
    let drops = rng.chance(100);
    let narrow = rng.chance(300);
    // The path between clients and origin is often slow, or no replica would ever win.
    let detour = rng.chance(600);
    let none = Path {
        delay: 0,
        jitter: 0,
        reorder: false,
        loss: 0,
        duplicated: 0,
        drops_options: false,
        mtu: 1500,
    };
    let mut paths = vec![vec![none; sites]; sites];
    for from in 0..sites {
        for to in 0..from {
            let delay = match detour && (from, to) == (ORIGIN, CLIENTS) {
                true => rng.between(80 * MS, 120 * MS),
                false if detour => rng.between(MS, 60 * MS),
                false => rng.between(MS, 120 * MS),
            };
            let mtu = if narrow { rng.pick(&[(2, 1500), (1, 1400), (1, 1280)]) } else { 1500 };
            for (from, to) in [(from, to), (to, from)] {
                paths[from][to] = Path {
                    delay,
                    jitter: rng.between(1_000, if reorders { delay / 2 } else { delay / 10 }),
                    reorder: reorders,
                    loss: if lossy { rng.between(0, 100) } else { 0 },
                    duplicated: if twice { rng.between(0, 50) } else { 0 },
                    drops_options: drops && (from, to) == (0, ORIGIN),
                    mtu,
                };
            }
        }
    }
    paths
}

/// Draws the connections.
pub(super) fn connections(rng: &mut Rng, clients: usize, services: usize) -> Vec<ConnectionPlan> {
    let mut all: Vec<ConnectionPlan> = Vec::new();
    for number in 0..rng.size(1, 6) {
        let start = start(rng, &all, services);
        let (client, port, service) = match start {
            Start::Alone => {
                let service = rng.size(0, services - 1);
                (rng.size(0, clients - 1), 40_000 + number as u16, service)
            }
            Start::After(earlier) => {
                let stays = rng.chance(600);
                let ConnectionPlan { client, port, service, .. } = all[earlier];
                (client, port, if stays { service } else { rng.size(0, services - 1) })
            }
            Start::Beside(other) => (all[other].client, all[other].port, 1 - all[other].service),
        };
        let most_response = rng.pick(&[(60, 3_000), (35, 30_000), (5, 200_000)]);
        all.push(ConnectionPlan {
            client,
            port,
            service,
            start,
            at: rng.pick(&[(1, 0), (2, 50 * MS), (1, 3 * SECOND), (1, 12 * SECOND)])
                + rng.between(0, 200 * MS),
            request: rng.size(0, 3_000.min(most_response)),
            response: rng.size(0, most_response),
            think: if rng.chance(100) { rng.between(0, 40 * SECOND) } else { 0 },
            closer: rng.pick(&[(2, Closer::Client), (2, Closer::Server), (1, Closer::Half)]),
            patience: match rng.chance(120) {
                true => rng.between(20 * MS, 5 * SECOND),
                false => PATIENT,
            },
            gives_up: rng.pick(&[
                (2, GivesUp::Vanishes),
                (1, GivesUp::Resets),
                (1, GivesUp::Closes),
            ]),
            spoofed: rng.chance(30).then(|| rng.between(300 * MS, 4 * SECOND)),
        });
    }
    all
}

/// Draws whether a connection reuses the port of an earlier one, or shares it. A port is reused by
/// one connection at a time, and shared by at most two.
fn start(rng: &mut Rng, all: &[ConnectionPlan], services: usize) -> Start {
    if all.is_empty() {
        return Start::Alone;
    }
    let earlier = rng.size(0, all.len() - 1);
    let untouched = all
        .iter()
        .all(|other| !matches!(other.start, Start::After(of) | Start::Beside(of) if of == earlier));
    let alone = !matches!(all[earlier].start, Start::Beside(_));
    match rng.pick(&[(60, 0), (30, 1), (10, 2)]) {
        1 if untouched && alone => Start::After(earlier),
        2 if untouched && alone && services == 2 => Start::Beside(earlier),
        _ => Start::Alone,
    }
}
