//! The end of the demonstration: counters, a replay, and processes that end in good order.

use std::time::{Duration, Instant};

use firstack::control::stats::{ResponderStats, Snapshot};

use super::capture::Captured;
use super::report::{Report, ms};
use super::world::World;
use crate::lab::{Family, RaceCapture, Result, served_by_others};
use crate::processes::Processes;

/// Time that counters have to come to rest.
const REST: Duration = Duration::from_secs(60);
/// Time after which no kernel holds a connection half open whose resets it has missed: Linux gives
/// one up 63 s after its SYN.
const HALF_OPEN: Duration = Duration::from_secs(90);

/// Waits until every packet is accounted for and no kernel holds a connection half open, as long as
/// that may take; the counters, and what is half open all the same.
pub fn rest(world: &World) -> Result<(Vec<Snapshot>, String)> {
    let start = Instant::now();
    loop {
        let all = world.fleet()?.settle(REST)?;
        let mut half_open = String::new();
        for place in world.topology().servers() {
            half_open += &World::half_open(place)?;
        }
        if half_open.trim().is_empty() || start.elapsed() > HALF_OPEN {
            return Ok((all, half_open));
        }
    }
}

/// Every connection was served by the site whose SYN/ACK reached the gateway first.
pub fn winners(world: &World, report: &mut Report, capture: &RaceCapture) -> Result<()> {
    let races = capture.complete(&world.fleet()?.gateway().stats()?)?;
    let wrong = served_by_others(&races, &world.answered());
    let text = format!(
        "{} races captured before the gateway: the server of each is whose SYN/ACK came first",
        races.len()
    );
    report.claim(!races.is_empty() && wrong.is_empty(), &text);
    wrong.iter().take(5).for_each(|line| report.line(&format!("          {line}")));
    Ok(())
}

/// Who did what, after so many connections.
pub fn counters(world: &World, report: &mut Report, connections: usize) -> Result<()> {
    let (all, half_open) = rest(world)?;
    races(world, report, &all[0]);
    report.line("  decisions (since each process was started):");
    decisions(world.fleet()?, report, &all);
    claims(report, (&all, &half_open), connections);
    Ok(())
}

/// The same in short: who won, and that everything adds up.
pub fn sums(world: &World, report: &mut Report, connections: usize) -> Result<()> {
    let (all, half_open) = rest(world)?;
    races(world, report, &all[0]);
    claims(report, (&all, &half_open), connections);
    Ok(())
}

fn races(world: &World, report: &Report, gateway: &Snapshot) {
    report.line("  races, as the gateway saw them (times to an eighth, rounded down):");
    let head = ["answered by", "won", "too late", "median", "99 %"];
    report.table(&head, &gateway.races.iter().map(|one| race(world, one)).collect::<Vec<_>>());
}

fn claims(report: &mut Report, (all, half_open): (&[Snapshot], &str), connections: usize) {
    let (gateway, switch) = (&all[0], &all[1]);
    let won: u64 = gateway.races.iter().map(|answers| answers.won).sum();
    let text = format!("{connections} connections were opened, {won} races won");
    report.claim(won == connections as u64, &text);
    let late: u64 = gateway.races.iter().map(|answers| answers.lost).sum();
    let resets = made(gateway, "resets");
    let text = format!("{late} acknowledgements came too late, {resets} resets were sent (op 514)");
    report.claim(late == resets && late > 0, &text);
    let fanned_out = switch.verdict("fanned_out");
    let copies: u64 = switch.copies.iter().map(|copies| copies.count).sum();
    let text = format!(
        "{fanned_out} start packets at the switch made {copies} copies, one for each replica \
         that it took for alive (op 312)"
    );
    let right = copies > 0 && copies <= 2 * fanned_out && switch.counter("copies_failed") == 0;
    report.claim(right, &text);
    let text = "no kernel is left with a half-open connection (ss state syn-recv)";
    report.claim(half_open.trim().is_empty(), text);
    let conserved = all.iter().all(Snapshot::is_conserved);
    report.claim(conserved, "every packet is accounted for at all four processes");
    let missed: u64 = all.iter().flat_map(|one| &one.ports).map(|port| port.rx_missed).sum();
    let unsent: u64 = all.iter().flat_map(|one| &one.sides).map(|side| side.unsent).sum();
    report.line(&format!("          lost at full port queues: {missed} in, {unsent} out"));
}

fn race(world: &World, answers: &ResponderStats) -> Vec<String> {
    let families = [(Family::V4, ""), (Family::V6, ", IPv6")];
    let servers = world.topology().servers().iter();
    let mut all =
        servers.flat_map(|place| families.map(|(family, suffix)| (place, family, suffix)));
    let name = all
        .find(|(place, family, _)| answers.address == Some(place.address_of(*family)))
        .map_or_else(|| "others".into(), |(place, _, suffix)| format!("{}{suffix}", place.site));
    let time = |us| ms(Duration::from_micros(us));
    let (won, lost) = (answers.won.to_string(), answers.lost.to_string());
    vec![name, won, lost, time(answers.p50_us), time(answers.p99_us)]
}

fn decisions(fleet: &Processes, report: &Report, all: &[Snapshot]) {
    let verdicts = [
        ("of these, from a port used before", "tagged_new_isn"),
        ("start packets fanned out (op 310)", "fanned_out"),
        ("copies given to a web server (op 410)", "copy_accepted"),
        ("copies dropped: busy (op 408)", "busy"),
        ("refusals of a replica dropped (op 504)", "reset_by_replica"),
        ("to the replica, rewritten (op 612)", "to_replica"),
        ("from the replica, rewritten (op 612)", "from_replica"),
    ];
    let tagged = ["tagged", "tagged_retransmit", "tagged_new_isn"];
    let tagged = |one: &Snapshot| tagged.iter().map(|name| one.verdict(name)).sum();
    let mut rows = vec![row("start packets tagged (op 210)", all.iter().map(tagged))];
    let counted = verdicts
        .iter()
        .map(|(text, verdict)| row(text, all.iter().map(|one| one.verdict(verdict))));
    rows.extend(counted);
    rows.push(row("resets made (op 514)", all.iter().map(|one| made(one, "resets"))));
    rows.push(row("copies made (op 312)", all.iter().map(|one| made(one, "copies"))));
    let received = |one: &Snapshot| one.sides.iter().map(|side| side.received).sum();
    rows.push(row("packets received", all.iter().map(received)));
    let names = fleet.all().iter().map(|appliance| appliance.name());
    report.table(&std::iter::once("").chain(names).collect::<Vec<_>>(), &rows);
}

fn row(text: &str, counts: impl Iterator<Item = u64>) -> Vec<String> {
    let cell = |count: u64| if count == 0 { "-".to_string() } else { count.to_string() };
    std::iter::once(text.to_string()).chain(counts.map(cell)).collect()
}

fn made(snapshot: &Snapshot, name: &str) -> u64 {
    snapshot.generated.iter().find(|made| made.name == name).map_or(0, |made| made.count)
}

/// What a replay says of the captured connection, and that it does what the gateway did.
pub fn explain(world: &World, report: &mut Report, captured: &Captured) -> Result<()> {
    let gateway = world.fleet()?.gateway();
    let (inside, outside) = (captured.inside(), captured.outside());
    let text = gateway.explain(&inside, &outside, &captured.replayed())?;
    for line in text.lines().take_while(|line| !line.starts_with("firstack")) {
        report.line(line);
    }
    match captured.compare()? {
        Ok([inside, outside]) => {
            let frames = format!("{inside} to the inside and {outside} to the outside");
            let text = format!("the replay makes the very frames that the gateway sent: {frames}");
            report.claim(inside > 0 && outside > 0, &text);
        }
        Err(difference) => report.claim(false, &format!("the replay differs: {difference}")),
    }
    // The configuration, for those who want to replay it themselves.
    let kept = inside.with_file_name("gateway.toml");
    std::fs::copy(gateway.config(), &kept)
        .map(drop)
        .map_err(|source| crate::lab::LabError::File { path: kept, source })
}

/// Ends all processes; each one has to give back all it had.
pub fn end(world: &mut World, report: &mut Report) -> Result<()> {
    for ended in world.take_fleet()?.stop()? {
        let name = &ended.name;
        let well = ended.status.success() && ended.snapshot.is_conserved();
        let text = format!("{name} ended with every packet buffer given back: {}", ended.status);
        report.claim(well, &text);
        if !well {
            report.line(&ended.log);
        }
    }
    Ok(())
}
