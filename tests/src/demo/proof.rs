//! The end of the demonstration: counters, a replay, and the shutdown of all processes.

use std::time::{Duration, Instant};

use firstack::control::stats::{ResponderStats, Snapshot};

use super::capture::Captured;
use super::report::{Report, ms};
use super::world::World;
use crate::lab::{Family, RaceCapture, Result, served_by_others};
use crate::processes::Processes;

/// Longest time until the counters no longer change.
const REST: Duration = Duration::from_secs(60);
/// Time after which no kernel has a half-open connection, even if the reset was lost: Linux drops it
/// 63 s after its SYN.
const HALF_OPEN: Duration = Duration::from_secs(90);

/// Waits until every packet is accounted for and no kernel has a half-open connection, or until
/// `HALF_OPEN` has passed. Returns the counters, and the connections that are still half-open.
pub fn rest(world: &World) -> Result<(Vec<Snapshot>, String)> {
    let start = Instant::now();
    loop {
        let all = world.processes()?.settle(REST)?;
        let mut half_open = String::new();
        for place in world.topology().servers() {
            half_open += &World::half_open(place)?;
        }
        if half_open.trim().is_empty() || start.elapsed() > HALF_OPEN {
            return Ok((all, half_open));
        }
    }
}

/// Claims that every connection was served by the site whose SYN/ACK reached the gateway first.
pub fn winners(world: &World, report: &mut Report, capture: &RaceCapture) -> Result<()> {
    let races = capture.complete(&world.processes()?.gateway().stats()?)?;
    let wrong = served_by_others(&races, &world.answered());
    let text = format!(
        "in each of {} captured races, the sender of the first SYN/ACK served the connection",
        races.len()
    );
    report.claim(!races.is_empty() && wrong.is_empty(), &text);
    wrong.iter().take(5).for_each(|line| report.line(&format!("          {line}")));
    Ok(())
}

/// Shows and checks the counters of all processes after `connections` connections.
pub fn counters(world: &World, report: &mut Report, connections: usize) -> Result<()> {
    let (all, half_open) = rest(world)?;
    races(world, report, &all[0]);
    report.line("  verdicts (since the start of each process):");
    decisions(world.processes()?, report, &all);
    claims(report, (&all, &half_open), connections);
    Ok(())
}

/// Shows the races, and checks the counters after `connections` connections.
pub fn sums(world: &World, report: &mut Report, connections: usize) -> Result<()> {
    let (all, half_open) = rest(world)?;
    races(world, report, &all[0]);
    claims(report, (&all, &half_open), connections);
    Ok(())
}

fn races(world: &World, report: &Report, gateway: &Snapshot) {
    report.line("  races at the gateway (times rounded down, by an eighth at most):");
    let head = ["responder", "won", "lost", "median", "99 %"];
    report.table(&head, &gateway.races.iter().map(|one| race(world, one)).collect::<Vec<_>>());
}

fn claims(report: &mut Report, (all, half_open): (&[Snapshot], &str), connections: usize) {
    let (gateway, switch) = (&all[0], &all[1]);
    let won: u64 = gateway.races.iter().map(|responder| responder.won).sum();
    let text = format!("{connections} connections opened, {won} races won");
    report.claim(won == connections as u64, &text);
    let lost: u64 = gateway.races.iter().map(|responder| responder.lost).sum();
    let resets = generated(gateway, "resets");
    let text = format!("{lost} SYN/ACKs of losers, {resets} resets sent (op 514)");
    report.claim(lost == resets && lost > 0, &text);
    let fanned_out = switch.verdict("fanned_out");
    let copies: u64 = switch.copies.iter().map(|copies| copies.count).sum();
    let text = format!(
        "the switch fanned out {fanned_out} SYNs in {copies} copies, at most one for each replica in \
         service (op 312)"
    );
    let right = copies > 0 && copies <= 2 * fanned_out && switch.counter("copies_failed") == 0;
    report.claim(right, &text);
    let direct = generated(gateway, "direct_copies");
    let share = (copies + direct) as f64 / won.max(1) as f64;
    report.line(&format!(
        "          {direct} direct copies by the gateway; {share:.2} copies of both kinds per race"
    ));
    let text = "no kernel has a half-open connection (ss state syn-recv)";
    report.claim(half_open.trim().is_empty(), text);
    let conserved = all.iter().all(Snapshot::is_conserved);
    report.claim(conserved, "all four processes account for every packet");
    let missed: u64 = all.iter().flat_map(|one| &one.ports).map(|port| port.rx_missed).sum();
    let unsent: u64 = all.iter().flat_map(|one| &one.sides).map(|side| side.unsent).sum();
    report.line(&format!(
        "          dropped at full port queues: {missed} received, {unsent} to send"
    ));
}

fn race(world: &World, responder: &ResponderStats) -> Vec<String> {
    let families = [(Family::V4, ""), (Family::V6, ", IPv6")];
    let servers = world.topology().servers().iter();
    let mut all =
        servers.flat_map(|place| families.map(|(family, suffix)| (place, family, suffix)));
    let name = all
        .find(|(place, family, _)| responder.address == Some(place.address_of(*family)))
        .map_or_else(|| "others".into(), |(place, _, suffix)| format!("{}{suffix}", place.site));
    let time = |us| ms(Duration::from_micros(us));
    let (won, lost) = (responder.won.to_string(), responder.lost.to_string());
    vec![name, won, lost, time(responder.p50_us), time(responder.p99_us)]
}

fn decisions(processes: &Processes, report: &Report, all: &[Snapshot]) {
    let verdicts = [
        ("of these, from a reused port", "tagged_new_isn"),
        ("SYNs fanned out (op 310)", "fanned_out"),
        ("copies forwarded to a web server (op 410)", "copy_accepted"),
        ("copies dropped: busy (op 408)", "busy"),
        ("RSTs of a replica dropped (op 504)", "reset_by_replica"),
        ("to the replica, rewritten (op 612)", "to_replica"),
        ("from the replica, rewritten (op 612)", "from_replica"),
    ];
    let tagged = ["tagged", "tagged_retransmit", "tagged_new_isn"];
    let tagged = |one: &Snapshot| tagged.iter().map(|name| one.verdict(name)).sum();
    let mut rows = vec![row("SYNs tagged (op 210)", all.iter().map(tagged))];
    let counted = verdicts
        .iter()
        .map(|(text, verdict)| row(text, all.iter().map(|one| one.verdict(verdict))));
    rows.extend(counted);
    rows.push(row("resets generated (op 514)", all.iter().map(|one| generated(one, "resets"))));
    rows.push(row("copies sent (op 312)", all.iter().map(|one| generated(one, "copies"))));
    let direct = all.iter().map(|one| generated(one, "direct_copies"));
    rows.push(row("direct copies sent", direct));
    let received = |one: &Snapshot| one.sides.iter().map(|side| side.received).sum();
    rows.push(row("packets received", all.iter().map(received)));
    let names = processes.all().iter().map(|appliance| appliance.name());
    report.table(&std::iter::once("").chain(names).collect::<Vec<_>>(), &rows);
}

fn row(text: &str, counts: impl Iterator<Item = u64>) -> Vec<String> {
    let cell = |count: u64| if count == 0 { "-".to_string() } else { count.to_string() };
    std::iter::once(text.to_string()).chain(counts.map(cell)).collect()
}

pub(super) fn generated(snapshot: &Snapshot, name: &str) -> u64 {
    snapshot
        .generated
        .iter()
        .find(|counter| counter.name == name)
        .map_or(0, |counter| counter.count)
}

/// Prints the replay's explanation of the captured connections, and claims that the replay sends the
/// gateway's frames.
pub fn explain(world: &World, report: &mut Report, captured: &Captured) -> Result<()> {
    let gateway = world.processes()?.gateway();
    let (inside, outside) = (captured.inside(), captured.outside());
    let text = gateway.explain(&inside, &outside, &captured.replayed())?;
    for line in text.lines().take_while(|line| !line.starts_with("firstack")) {
        report.line(line);
    }
    match captured.compare()? {
        Ok([inside, outside]) => {
            let frames = format!("{inside} to the inside and {outside} to the outside");
            let text = format!("the replay sends the same frames as the gateway: {frames}");
            report.claim(inside > 0 && outside > 0, &text);
        }
        Err(difference) => report.claim(false, &format!("the replay differs: {difference}")),
    }
    // A reader can replay the captures with this configuration.
    let copy = inside.with_file_name("gateway.toml");
    std::fs::copy(gateway.config(), &copy)
        .map(drop)
        .map_err(|source| crate::lab::LabError::File { path: copy, source })
}

/// Stops all processes. Each one has to free its packet buffers and to account for its packets.
pub fn end(world: &mut World, report: &mut Report) -> Result<()> {
    for ended in world.take_processes()?.stop()? {
        let name = &ended.name;
        let well = ended.status.success() && ended.snapshot.is_conserved();
        let text = format!("{name} has freed every packet buffer: {}", ended.status);
        report.claim(well, &text);
        if !well {
            report.line(&ended.log);
        }
    }
    Ok(())
}
