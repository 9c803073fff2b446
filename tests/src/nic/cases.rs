//! The cases, in the order in which one boot runs them.

use std::collections::BTreeMap;
use std::path::Path;

use firstack::control::stats::Snapshot;
use firstack_packets::{Body, Header};

use super::appliance::Appliance;
use super::card::Placement;
use super::drive::Drive;
use super::frames::{of_many_clients, plain};
use super::{Result, Trial};
use crate::scenario::{Scenario, Side, Step};

/// The folder of the scenarios.
const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
/// The scenarios of a race under a configuration: one on clients of its own, one on that of the names.
const RACES: [(char, [&str; 2]); 3] = [
    ('A', ["gateway/race/losers-reset", "gateway/translate/both-ways-under-a"]),
    ('B', ["gateway/race/losers-reset-under-b", "gateway/translate/one-way-under-b"]),
    ('C', ["gateway/race/losers-reset-under-c", "gateway/translate/both-ways-under-c"]),
];
/// Clients that race, each in a network of its own.
const RACERS: u32 = 12;
/// Clients whose packets show the placement.
const CLIENTS: u32 = 512;
/// Packets of the winner's client that pass after a restart.
const TO_REPLICA: &str = "to_replica";

/// Reads a scenario. With a number, its clients are others, of that number.
fn scenario(name: &str, number: Option<u32>) -> Result<Scenario, String> {
    let directory = Path::new(SCENARIOS);
    let path = directory.join(format!("{name}.scenario"));
    let mut text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
    if let Some(number) = number {
        let line = text.find("config ").unwrap_or_default();
        let end = line + text[line..].find('\n').unwrap_or_default() + 1;
        text.insert_str(
            end,
            &format!("name C = 198.19.{number}.10:40000\nname D = 198.19.{number}.11:40000\n"),
        );
    }
    Scenario::parse(&text, &path, directory)
}

/// Returns the configuration of a gateway.
pub(super) fn gateway(configuration: char) -> Result<Scenario, String> {
    let found = RACES.into_iter().find(|(name, _)| *name == configuration);
    scenario(found.map_or(RACES[0].1[1], |(_, names)| names[1]), None)
}

/// Returns the scenarios of the races under a configuration.
fn races(configuration: char) -> Result<[Vec<Scenario>; 2], String> {
    let names =
        RACES.into_iter().find(|(name, _)| *name == configuration).map_or(RACES[0].1, |r| r.1);
    let of_many = (1..=RACERS).map(|number| scenario(names[0], Some(number)));
    let other = (1..=RACERS).map(|number| scenario(names[1], Some(100 + number)));
    let many = of_many.chain(other).collect::<Result<_, _>>()?;
    Ok([vec![scenario(names[1], None)?], many])
}

/// Whether a step can be of any client: the flow labels of IPv6 follow from its address, so do checksums
/// that are written out, and what has no frame leave takes long to wait for.
fn is_of_any_client(step: &&Step) -> bool {
    let is_v4 = match &step.frame.body {
        Body::Ip(ip) => matches!(ip.header, Header::V4 { .. }),
        _ => false,
    };
    let mut out = step.out.iter().map(|(_, frame)| frame);
    is_v4 && !step.out.is_empty() && out.all(|frame| frame.patches.is_empty())
}

/// Frames of every kind, both ways, byte for byte.
pub(super) fn forward(trial: &Trial, drive: &mut Drive<'_>) -> Result<String> {
    let frames = plain(&gateway('A')?, trial.longest)?;
    drive.pass(&frames)?;
    let longest = frames.iter().map(|frame| frame.bytes.len()).max().unwrap_or_default();
    let limit = if trial.limit.is_empty() { String::new() } else { format!(" ({})", trial.limit) };
    Ok(format!(
        "{} frames both ways, 60 to {longest} bytes, every byte the same{limit}",
        frames.len()
    ))
}

/// Races of several clients, from the SYN to the winner's data; what leaves is compared byte by byte, and
/// every packet has the verdict that its scenario says.
pub(super) fn race(
    configuration: char,
    drive: &mut Drive<'_>,
    process: &Appliance,
) -> Result<String> {
    let before = drive.settle(process)?;
    let [whole, many] = races(configuration)?;
    let mut steps: Vec<&Step> = whole.iter().flat_map(|scenario| &scenario.steps).collect();
    for scenario in &many {
        steps.extend(scenario.steps.iter().filter(is_of_any_client));
    }
    drive.play(&steps, process)?;
    let after = drive.settle(process)?;
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    steps.iter().for_each(|step| *expected.entry(&step.verdict).or_default() += 1);
    for (verdict, count) in &expected {
        let found = after.verdict(verdict) - before.verdict(verdict);
        if found != *count {
            return Err(format!("{found} packets with {verdict}, expected {count}").into());
        }
    }
    let clients = whole.len() + many.len();
    let left: usize = steps.iter().map(|step| step.out.len()).sum();
    Ok(format!("{clients} races, {} frames in, {left} out as the scenarios say", steps.len()))
}

/// Packets of many clients: who places them, and how many were handed over.
pub(super) fn placement(
    trial: &Trial,
    drive: &mut Drive<'_>,
    process: &Appliance,
) -> Result<String> {
    let before = drive.settle(process)?;
    drive.pass_together(&of_many_clients(&gateway('A')?, CLIENTS)?)?;
    let after = drive.settle(process)?;
    let of = |snapshot: &Snapshot, what: fn(&firstack::control::stats::WorkerStats) -> u64| {
        snapshot.workers.iter().map(what).collect::<Vec<_>>()
    };
    let total = |snapshot: &Snapshot, what| of(snapshot, what).into_iter().sum::<u64>();
    let moved = |what| total(&after, what) - total(&before, what);
    let (handed, taken) = (moved(|w| w.handed_off), moved(|w| w.taken_from_workers));
    let processed =
        |w: &firstack::control::stats::WorkerStats| w.sides.iter().map(|s| s.received).sum();
    let shares: Vec<u64> =
        of(&after, processed).iter().zip(of(&before, processed)).map(|(a, b)| a - b).collect();
    let by: Vec<_> = after.ports.iter().map(|port| port.steered_by.as_str()).collect();
    let why: Vec<_> = after.ports.iter().map(|port| port.steered_why.as_str()).collect();
    let packets = 2 * CLIENTS;
    let seen = format!(
        "{packets} packets of {CLIENTS} clients by worker {shares:?}, {handed} handed off; steered by {} ({})",
        by.join("/"),
        why.join("/")
    );
    let by_card = by.iter().all(|by| by.starts_with("hardware"));
    let wrong = match trial.placement {
        _ if handed != taken => Some("handed off is not what was taken"),
        _ if by_card && handed > 0 => Some("a port places packets, yet some were handed off"),
        Placement::ByCard if !by_card => Some("the ports should place packets"),
        Placement::InSoftware if by_card => Some("the ports cannot place packets"),
        // The hash draws its word at start: each worker has a share, however uneven.
        _ if shares.contains(&0) => Some("a worker has nothing to do"),
        _ if !by_card && trial.cores.len() > 1 && handed == 0 => Some("nothing was handed off"),
        _ => None,
    };
    match wrong {
        Some(wrong) => Err(format!("{wrong}: {seen}").into()),
        None => Ok(seen),
    }
}

/// Each link goes away and comes back: it is logged and counted, and forwarding goes on.
pub(super) fn links(drive: &mut Drive<'_>, process: &Appliance) -> Result<String> {
    for side in [Side::Outside, Side::Inside] {
        let before = process.stats(drive.machine, drive.place)?.ports[side as usize].link_changes;
        for up in [false, true] {
            let known = process.log(drive.machine).len();
            drive.machine.set_link(side, up)?;
            let words = [if up { "link up" } else { "link down" }, side.name()];
            process.logs(drive.machine, known, &words)?;
            let port = process.stats(drive.machine, drive.place)?.ports[side as usize].clone();
            let expected = (up, before + 1 + u64::from(up));
            if (port.link_up, port.link_changes) != expected {
                let found = (port.link_up, port.link_changes);
                let name = side.name();
                return Err(
                    format!("{name}: link and changes {found:?}, expected {expected:?}").into()
                );
            }
        }
    }
    let frames = plain(&gateway('A')?, SHORT)?;
    drive.pass(&frames)?;
    Ok(format!("down and up on both ports, logged and counted; {} frames pass after", frames.len()))
}

/// Frames that every port carries, in bytes.
const SHORT: usize = 1514;

/// The process ends by SIGTERM: with exit code 0, which it does not have if a buffer is missing.
pub(super) fn stop(drive: &mut Drive<'_>, process: Appliance) -> Result<String> {
    let snapshot = drive.settle(&process)?;
    let ports: u64 = snapshot.ports.iter().map(|port| port.rx_packets).sum();
    let lost: u64 = snapshot
        .ports
        .iter()
        .map(|p| p.rx_missed + p.rx_errors + p.rx_no_buffer + p.tx_errors)
        .sum();
    let sent: u64 = drive.sent.iter().sum();
    if ports != sent || lost != 0 {
        return Err(format!("the ports count {ports} of {sent} frames, {lost} lost").into());
    }
    let log = process.log(drive.machine);
    let known = log.lines().find(|line| line.contains("panicked"));
    if let Some(line) = known {
        return Err(line.to_owned().into());
    }
    drive.sent = [0; 2];
    let (code, took) = process.end(drive.machine, "TERM")?;
    match code {
        0 => Ok(format!("{:.1} s, exit code 0, {sent} frames accounted for", took.as_secs_f64())),
        code => Err(format!("exit code {code}: {log}").into()),
    }
}

/// The process is killed and started again: the ports start, and connections go on.
pub(super) fn kill(
    configuration: char,
    name: &str,
    drive: &mut Drive<'_>,
    process: Appliance,
) -> Result<(Appliance, String)> {
    process.end(drive.machine, "KILL")?;
    drive.sent = [0; 2];
    let scenario = gateway(configuration)?;
    let process = Appliance::start(drive.machine, drive.place, &scenario, name)?;
    let [_, many] = races(configuration)?;
    let steps = many.iter().flat_map(|scenario| &scenario.steps);
    let steps: Vec<_> =
        steps.filter(|step| step.verdict == TO_REPLICA && is_of_any_client(step)).collect();
    drive.play(&steps, &process)?;
    let took = process.took.as_secs_f64();
    let seen = format!(
        "forwards {took:.1} s after the start; {} packets of earlier connections go to their replica",
        steps.len()
    );
    Ok((process, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_of_the_races_are_there_and_have_everything() {
        for (configuration, _) in RACES {
            let [whole, many] = races(configuration).unwrap();
            let steps =
                || many.iter().flat_map(|scenario| &scenario.steps).filter(is_of_any_client);
            for verdict in ["tagged", "replica_won", "loser_reset", TO_REPLICA] {
                let count = steps().filter(|step| step.verdict == verdict).count();
                assert!(count >= RACERS as usize, "{configuration}: {count} {verdict}");
            }
            assert!(whole[0].steps.len() > 6);
            assert!(gateway(configuration).unwrap().config.contains("web6"));
        }
    }

    #[test]
    fn plain_frames_have_every_length_up_to_the_longest() {
        let frames = plain(&gateway('A').unwrap(), 9014).unwrap();
        let lengths: Vec<_> = frames.iter().map(|frame| frame.bytes.len()).collect();
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&60), Some(&9014)));
        let many = of_many_clients(&gateway('A').unwrap(), CLIENTS).unwrap();
        let distinct: std::collections::BTreeSet<_> =
            many.iter().map(|frame| &frame.bytes).collect();
        assert_eq!(distinct.len(), 2 * CLIENTS as usize);
    }
}
