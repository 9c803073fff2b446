//! Connections that go on while a replica is killed.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::world::World;
use crate::lab::{Curl, Family, Fetched, LabError, Namespace, Result};

/// Concurrent connections of each family.
const AT_A_TIME: usize = 2;
/// Time-out of a connection. One whose server is killed may hang for so long.
const LONGEST: Duration = Duration::from_secs(20);
/// Time-out for the wanted number of connections.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A connection that has ended.
#[derive(Debug)]
struct Ended {
    family: Family,
    begun: Instant,
    at: Instant,
    result: Result<Fetched, String>,
}

/// The connections of a run during which the nearest replica was killed.
#[derive(Debug, Default)]
pub struct Run {
    /// All connections, of all families.
    pub connections: usize,
    /// Connections that were in progress when the web server was killed.
    pub in_progress: usize,
    /// Of these, the connections that failed.
    pub interrupted: usize,
    /// For each family, the connections that were opened after that and are complete, and the errors
    /// of the others. Errors from before the kill are among them.
    pub after: Vec<(Family, Vec<Fetched>, Vec<String>)>,
}

/// Fetches 1 MB again and again over these families. Kills replica 1 meanwhile: first its web server,
/// then, after `count` more connections in each family, its appliance. Ends after as many again.
pub fn kill_nearest(world: &mut World, families: &[Family], count: usize) -> Result<Run> {
    let host = world.client().host.clone();
    let targets: Vec<_> = families.iter().map(|family| (*family, world.service(*family))).collect();
    let (stop, ended) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let times = std::thread::scope(|scope| {
        let (host, stop, ended) = (&host, &stop, &ended);
        for target in targets.iter().flat_map(|target| [*target; AT_A_TIME]) {
            scope.spawn(move || connect(host, target, stop, ended));
        }
        let times = kill(world, families, count, ended);
        stop.store(true, Relaxed);
        times
    })?;
    let ended = ended.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(sort(ended, families, times))
}

/// Makes connections one after another until `stop` is set.
fn connect(
    host: &Namespace,
    (family, service): (Family, SocketAddr),
    stop: &AtomicBool,
    ended: &Mutex<Vec<Ended>>,
) {
    let curl = Curl::to(service, "1MB").discard().limit(LONGEST);
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        let result = match curl.run(host) {
            Ok(fetched) if fetched.status == 200 => Ok(fetched),
            Ok(fetched) => Err(format!("HTTP status {}", fetched.status)),
            Err(error) => Err(error.to_string()),
        };
        let one = Ended { family, begun, at: Instant::now(), result };
        lock(ended).push(one);
    }
}

/// Kills the web server and the appliance of replica 1. Returns the times before and after the web
/// server's end.
fn kill(
    world: &mut World,
    families: &[Family],
    count: usize,
    ended: &Mutex<Vec<Ended>>,
) -> Result<[Instant; 2]> {
    let start = Instant::now();
    wait_for(ended, families, start, count)?;
    let before = Instant::now();
    world.kill_server(1)?;
    let after = Instant::now();
    wait_for(ended, families, after, count)?;
    world.kill_appliance(1)?;
    wait_for(ended, families, Instant::now(), count)?;
    Ok([before, after])
}

/// Waits until `count` connections that began after `since` have ended in each family.
fn wait_for(
    ended: &Mutex<Vec<Ended>>,
    families: &[Family],
    since: Instant,
    count: usize,
) -> Result<()> {
    let enough = |family: &Family| {
        let ended = lock(ended);
        let own = ended.iter().filter(|one| one.family == *family && one.begun >= since);
        own.count() >= count
    };
    let start = Instant::now();
    while !families.iter().all(enough) {
        if start.elapsed() > MAX_WAIT {
            let text = format!("fewer than {count} connections ended within {MAX_WAIT:?}");
            return Err(LabError::Topology(text));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn sort(ended: Vec<Ended>, families: &[Family], [before, after]: [Instant; 2]) -> Run {
    let mut run = Run { connections: ended.len(), ..Run::default() };
    let mut own: Vec<_> = families.iter().map(|of| (*of, Vec::new(), Vec::new())).collect();
    for one in ended {
        let in_progress = one.begun < after && one.at >= before;
        run.in_progress += usize::from(in_progress);
        run.interrupted += usize::from(in_progress && one.result.is_err());
        let Some((_, good, failed)) = own.iter_mut().find(|(of, ..)| *of == one.family) else {
            continue;
        };
        match one.result {
            Ok(fetched) if one.begun >= after => good.push(fetched),
            Err(error) if !in_progress => failed.push(error),
            _ => {}
        }
    }
    run.after = own;
    run
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
