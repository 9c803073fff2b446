//! The draws of a plan: replicas, the ways between sites, connections.

use super::address::{CLIENTS, ORIGIN};
use super::dice::Dice;
use super::plan::{
    Closer, ConnectionPlan, Gate, MS, Manner, PATIENT, Path, Reach, ReplicaPlan, SECOND, Start,
};

/// One replica.
pub(super) fn replica(dice: &mut Dice) -> ReplicaPlan {
    let reach = dice.pick(&[(2, Reach::Mac), (2, Reach::Resolved), (1, Reach::Bears)]);
    let bears_service = dice.chance(200);
    ReplicaPlan {
        servers: if reach == Reach::Bears { 1 } else { dice.size(1, 2) },
        manner: dice.pick(&[(80, Manner::Serves), (10, Manner::Refuses), (10, Manner::Silent)]),
        gate: dice.pick(&[
            (70, Gate::Open),
            (10, Gate::Dead),
            (10, Gate::Busy),
            (10, Gate::Limit(1)),
        ]),
        reach,
        port: if bears_service { None } else { dice.chance(200).then_some(8080) },
        bears_service,
        repeats: dice.pick(&[(8, 0), (2, 2)]),
    }
}

/// The ways between the sites.
pub(super) fn paths(dice: &mut Dice, sites: usize) -> Vec<Vec<Path>> {
    let lossy = dice.chance(600);
    let twice = dice.chance(500);
    let reorders = dice.chance(500);
    let drops = dice.chance(100);
    let narrow = dice.chance(300);
    // Packets between clients and origin often take the long way, or no replica would ever win.
    let detour = dice.chance(600);
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
                true => dice.between(80 * MS, 120 * MS),
                false if detour => dice.between(MS, 60 * MS),
                false => dice.between(MS, 120 * MS),
            };
            let mtu = if narrow { dice.pick(&[(2, 1500), (1, 1400), (1, 1280)]) } else { 1500 };
            for (from, to) in [(from, to), (to, from)] {
                paths[from][to] = Path {
                    delay,
                    jitter: dice.between(1_000, if reorders { delay / 2 } else { delay / 10 }),
                    reorder: reorders,
                    loss: if lossy { dice.between(0, 100) } else { 0 },
                    duplicated: if twice { dice.between(0, 50) } else { 0 },
                    drops_options: drops && (from, to) == (0, ORIGIN),
                    mtu,
                };
            }
        }
    }
    paths
}

/// The connections.
pub(super) fn connections(dice: &mut Dice, clients: usize, services: usize) -> Vec<ConnectionPlan> {
    let mut all: Vec<ConnectionPlan> = Vec::new();
    for number in 0..dice.size(1, 6) {
        let start = start(dice, &all, services);
        let (client, port, service) = match start {
            Start::Alone => {
                let service = dice.size(0, services - 1);
                (dice.size(0, clients - 1), 40_000 + number as u16, service)
            }
            Start::After(earlier) => {
                let stays = dice.chance(600);
                let ConnectionPlan { client, port, service, .. } = all[earlier];
                (client, port, if stays { service } else { dice.size(0, services - 1) })
            }
            Start::Beside(other) => (all[other].client, all[other].port, 1 - all[other].service),
        };
        let most_response = dice.pick(&[(60, 3_000), (35, 30_000), (5, 200_000)]);
        all.push(ConnectionPlan {
            client,
            port,
            service,
            start,
            at: dice.pick(&[(1, 0), (2, 50 * MS), (1, 3 * SECOND), (1, 12 * SECOND)])
                + dice.between(0, 200 * MS),
            request: dice.size(0, 3_000.min(most_response)),
            response: dice.size(0, most_response),
            think: if dice.chance(100) { dice.between(0, 40 * SECOND) } else { 0 },
            closer: dice.pick(&[(2, Closer::Client), (2, Closer::Server), (1, Closer::Half)]),
            patience: match dice.chance(120) {
                true => dice.between(20 * MS, 5 * SECOND),
                false => PATIENT,
            },
            vanishes: dice.chance(500),
            spoofed: dice.chance(30).then(|| dice.between(300 * MS, 4 * SECOND)),
        });
    }
    all
}

/// Whether a connection takes over the port of an earlier one, or shares it. Each port is taken
/// over by one at a time, and shared by two at the most.
fn start(dice: &mut Dice, all: &[ConnectionPlan], services: usize) -> Start {
    if all.is_empty() {
        return Start::Alone;
    }
    let earlier = dice.size(0, all.len() - 1);
    let untouched = all
        .iter()
        .all(|other| !matches!(other.start, Start::After(of) | Start::Beside(of) if of == earlier));
    let alone = !matches!(all[earlier].start, Start::Beside(_));
    match dice.pick(&[(60, 0), (30, 1), (10, 2)]) {
        1 if untouched && alone => Start::After(earlier),
        2 if untouched && alone && services == 2 => Start::Beside(earlier),
        _ => Start::Alone,
    }
}
