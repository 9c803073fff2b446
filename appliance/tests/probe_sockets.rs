//! File descriptors of probes: their number is bounded, all are closed, and probing continues when
//! the process has none left. A single test, because the limit applies to the whole process.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use firstack::control::health::{Http, Prober, Settings, State, Target};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const SETTINGS: Settings = Settings {
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    rise: 2,
    fall: 3,
};
/// The most connections that a prober has at a time.
const CONNECTIONS: usize = 512;

fn open_files() -> usize {
    // The directory itself is open meanwhile.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

fn asked(address: SocketAddr) -> Target {
    let http = Http { host: "www.example".to_owned(), path: "/".to_owned(), tells_busy: false };
    Target { name: address.to_string(), address, http: Some(http) }
}

#[test]
fn sockets_are_bounded_given_back_and_missed() {
    // Nobody accepts: connections beyond the backlog stay half open, and none is answered.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let targets = vec![asked(listener.local_addr().unwrap()); 600];
    let before = open_files();
    let start = Instant::now();
    let mut prober = Prober::new(SETTINGS, targets, start);
    // All targets are due.
    let mut now = start + SETTINGS.interval;
    for _ in 0..50 {
        assert_eq!(prober.step(now).count(), 0);
        now += Duration::from_millis(1);
    }
    assert_eq!(open_files(), before + CONNECTIONS);
    // Probes that timed out make room for others.
    for _ in 0..5 * SETTINGS.timeout.as_millis() / 100 {
        prober.step(now).count();
        now += Duration::from_millis(50);
    }
    let stats = prober.stats();
    let missed = stats.iter().find(|it| it.failures == 0 || !it.reason.starts_with("timed out"));
    assert_eq!(missed, None);
    drop(prober);
    assert_eq!(open_files(), before);

    // No file descriptor is left for a socket.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, before as u64 + 10, most).unwrap();
    let files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let target = Target { http: None, ..asked(other.local_addr().unwrap()) };
    let mut prober = Prober::new(SETTINGS, vec![target], now);
    let changes: Vec<_> =
        (0..3).flat_map(|n| prober.step(now + n * SETTINGS.interval).collect::<Vec<_>>()).collect();
    assert_eq!((changes.len(), changes[0].to), (1, State::Down));
    assert_eq!(changes[0].reason, "no socket: too many open files");
    // Then there are some again.
    drop(files);
    let results: Vec<_> = (3..6)
        .flat_map(|n| {
            let changes: Vec<_> = prober.step(now + n * SETTINGS.interval).collect();
            // Until something comes, however busy the machine is.
            prober.wait(Duration::from_secs(60));
            changes
        })
        .collect();
    assert_eq!((results.len(), results[0].to), (1, State::Up));
}
