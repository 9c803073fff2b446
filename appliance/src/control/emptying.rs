//! `firstack gate drain --wait`: asks a process what is left of a drain until that is nothing.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::socket::{self, Answer, Command, Name};
use super::stats::{DrainStats, Snapshot};

/// The time between two questions.
const INTERVAL: Duration = Duration::from_millis(500);

/// How waiting for a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptying {
    /// No connection is left.
    Empty,
    /// The time was up, with so many connections left; `None` if they were not counted in time.
    TimeUp(Option<u64>),
    /// What was named is not drained, or not any more, or is a server or replica, whose connections
    /// are not counted.
    NotDrained,
}

/// Waits until no connection is left of what is drained: of a service, or of the whole gateway, switch
/// or replica. Calls `show` at first and whenever their number has changed. `longest` is the longest
/// time to wait; `None` waits for ever.
///
/// # Errors
/// If the process does not answer.
pub fn wait(
    path: &Path,
    name: Option<&Name>,
    longest: Option<Duration>,
    mut show: impl FnMut(&DrainStats),
) -> Result<Emptying, socket::Error> {
    let start = Instant::now();
    let mut shown = None;
    loop {
        let left = match socket::ask(path, Command::Stats)? {
            Answer::Stats(snapshot) => found(&snapshot, name),
            Answer::Memory(_) | Answer::Done(_) | Answer::Error(_) | Answer::Invalid(_) => None,
        };
        let Some(left) = left else { return Ok(Emptying::NotDrained) };
        if left.connections.is_some() && shown != Some(left.connections) {
            show(&left);
            shown = Some(left.connections);
        }
        if left.connections == Some(0) {
            return Ok(Emptying::Empty);
        }
        let rest = longest.map_or(INTERVAL, |longest| longest.saturating_sub(start.elapsed()));
        if rest == Duration::ZERO {
            return Ok(Emptying::TimeUp(left.connections));
        }
        sleep(rest.min(INTERVAL));
    }
}

fn found(snapshot: &Snapshot, name: Option<&Name>) -> Option<DrainStats> {
    let name = name.map_or("", Name::as_str);
    snapshot.drained.iter().find(|drained| drained.name == name).cloned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::control::socket::Server;

    /// Serves snapshots with these numbers of connections in turn, the last one for ever.
    fn serving(
        name: &str,
        numbers: Vec<Option<u64>>,
        ask: impl FnOnce(&Path) -> Result<Emptying, socket::Error>,
    ) -> Emptying {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut server = Server::bind(&path).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let (seen, name) = (Arc::clone(&done), name.to_owned());
        let thread = std::thread::spawn(move || {
            let mut next = 0;
            while !seen.load(Relaxed) {
                server.serve(|_| {
                    let connections = numbers[next.min(numbers.len() - 1)];
                    next += 1;
                    let drained =
                        DrainStats { name: name.clone(), connections, last_heard_ms: None };
                    Answer::Stats(Box::new(Snapshot {
                        drained: vec![drained],
                        ..Snapshot::default()
                    }))
                });
                sleep(Duration::from_millis(1));
            }
        });
        let result = ask(&path).unwrap();
        done.store(true, Relaxed);
        thread.join().unwrap();
        result
    }

    #[test]
    fn each_number_is_shown_once_until_none_is_left() {
        let mut shown = Vec::new();
        let result = serving("", vec![None, Some(2), Some(2), Some(0)], |path| {
            wait(path, None, None, |left| shown.push(left.connections))
        });
        assert_eq!((result, shown), (Emptying::Empty, vec![Some(2), Some(0)]));
    }

    #[test]
    fn the_time_may_be_up_and_another_name_is_not_drained() {
        let shop: Name = "shop".parse().unwrap();
        let longest = Some(Duration::from_millis(20));
        let result =
            serving("shop", vec![Some(3)], |path| wait(path, Some(&shop), longest, |_| {}));
        assert_eq!(result, Emptying::TimeUp(Some(3)));
        let result = serving("shop", vec![Some(3)], |path| wait(path, None, longest, |_| {}));
        assert_eq!(result, Emptying::NotDrained);
    }
}
