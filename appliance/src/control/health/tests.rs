use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn};

use super::testing::{Behaviour, SETTINGS, Server, Setup, TICK, http, say, tcp};
use super::*;

/// Returns a socket bound to a port of this host without a listener, and its address.
fn unheard() -> (OwnedFd, SocketAddr) {
    let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let fd = socket::socket(AddressFamily::Inet, kind, flags, None).unwrap();
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    socket::bind(fd.as_raw_fd(), &SockaddrIn::from(any)).unwrap();
    let bound: SockaddrIn = socket::getsockname(fd.as_raw_fd()).unwrap();
    (fd, SocketAddrV4::from(bound).into())
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_server_that_accepts_is_up_in_both_families() {
    for server in [Some(Server::new(Behaviour::Silent)), Server::v6(Behaviour::Silent)] {
        // The host may have no IPv6.
        let Some(server) = server else { continue };
        let target = tcp(server.address());
        let mut setup = Setup::new(vec![server], vec![target]);
        assert_eq!((setup.prober.len(), setup.prober.is_empty()), (1, false));
        assert_eq!(setup.prober.health(0).reason(), "not probed yet");
        assert_eq!(setup.first_result(), (State::Up, false, "connected".to_owned()));
        assert!(setup.prober.health(0).round_trip().unwrap() < SETTINGS.timeout);
        setup.run(seconds(4));
        let stats = &setup.prober.stats()[0];
        assert_eq!((stats.state, stats.failures, setup.servers[0].open()), (State::Up, 0, 0));
        assert_eq!(stats.successes, setup.servers[0].accepted as u64);
    }
}

#[test]
fn a_server_that_answers_is_up_in_both_families() {
    for server in [Some(Server::new(say(200))), Server::v6(say(200))].into_iter().flatten() {
        let target = http(server.address(), false);
        let mut setup = Setup::new(vec![server], vec![target]);
        assert_eq!(setup.first_result(), (State::Up, false, "HTTP 200".to_owned()));
    }
}

#[test]
fn a_refused_connection_is_a_failure() {
    let (_port, address) = unheard();
    let mut setup = Setup::new(Vec::new(), vec![tcp(address)]);
    assert_eq!(setup.first_result(), (State::Unknown, false, "connection refused".to_owned()));
    let changes = setup.run(2 * SETTINGS.interval);
    let down = Change {
        target: 0,
        from: State::Unknown,
        to: State::Down,
        busy: false,
        reason: "connection refused".to_owned(),
    };
    assert_eq!(changes, [down]);
    assert!(!setup.prober.health(0).is_up());
}

#[test]
fn what_a_server_says_decides() {
    let say_all = |text: &[u8]| Behaviour::Say(text.to_owned());
    let endless = |start: &str| Behaviour::Endless(start.as_bytes().to_owned());
    let trickle = |text: &str| Behaviour::Trickle(text.as_bytes().to_owned(), 2);
    let (garbage, closed) = ("not an HTTP answer", "closed without an answer");
    let cases = [
        (say(204), false, State::Up, false, "HTTP 204"),
        (say(302), false, State::Up, false, "HTTP 302"),
        (say(404), false, State::Unknown, false, "HTTP 404"),
        (say(500), true, State::Unknown, false, "HTTP 500"),
        (say(503), false, State::Unknown, false, "HTTP 503"),
        (say(429), true, State::Up, true, "HTTP 429"),
        (say(503), true, State::Up, true, "HTTP 503"),
        (say_all(b"SSH-2.0-x\r\n"), true, State::Unknown, false, garbage),
        (say_all(&b"\0\xff".repeat(5000)), true, State::Unknown, false, garbage),
        (endless("x"), false, State::Unknown, false, garbage),
        (endless("HTTP/1.1 200"), false, State::Unknown, false, garbage),
        (endless("HTTP/1.1 200 "), false, State::Up, false, "HTTP 200"),
        (endless("HTTP/1.1 500 No\r\nX-Long: "), false, State::Unknown, false, "HTTP 500"),
        (trickle("HTTP/1.1 200 OK\r\n\r\n"), false, State::Up, false, "HTTP 200"),
        (trickle("HTTP/1.1 2"), false, State::Unknown, false, closed),
        (Behaviour::Close, false, State::Unknown, false, closed),
    ];
    for (behaviour, tells_busy, state, busy, reason) in cases {
        let mut setup = Setup::with_http_check(behaviour.clone(), tells_busy);
        assert_eq!(setup.first_result(), (state, busy, reason.to_owned()), "{behaviour:?}");
        assert!(setup.prober.probes.is_empty());
    }
}

#[test]
fn a_server_that_is_too_slow_times_out_and_its_connection_is_closed() {
    let trickle = Behaviour::Trickle(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), 20);
    for behaviour in [Behaviour::Silent, trickle] {
        let mut setup = Setup::with_http_check(behaviour, false);
        setup.run(SETTINGS.timeout);
        assert_eq!((setup.prober.health(0).failures(), setup.servers[0].open()), (0, 1));
        setup.run(2 * TICK);
        assert_eq!(setup.prober.health(0).reason(), "timed out after connecting");
        assert_eq!((setup.prober.health(0).failures(), setup.servers[0].open()), (1, 0));
        assert_eq!(setup.prober.health(0).round_trip(), None);
    }
}

#[test]
fn a_connection_that_nobody_takes_times_out() {
    let (port, address) = unheard();
    socket::listen(&port, Backlog::new(1).unwrap()).unwrap();
    // Fills the accept queue; further connections are dropped silently.
    let queued: Vec<_> = (0..4).map(|_| probe::connect(address).unwrap()).collect();
    let mut setup = Setup::new(Vec::new(), vec![tcp(address)]);
    assert_eq!(setup.first_result(), (State::Unknown, false, "timed out".to_owned()));
    assert!(setup.prober.probes.is_empty());
    drop(queued);
}

#[test]
fn rise_and_fall_hold_over_the_network() {
    let mut setup = Setup::with_http_check(say(200), true);
    let mut then = |behaviour, probes: u32| -> Vec<_> {
        setup.servers[0].behaviour = behaviour;
        let changes = setup.run(probes * SETTINGS.interval);
        changes.into_iter().map(|change| (change.to, change.busy, change.reason)).collect()
    };
    let change = |to, busy, reason: &str| vec![(to, busy, reason.to_owned())];
    assert_eq!(then(say(200), 2), change(State::Up, false, "HTTP 200"));
    assert_eq!(then(say(500), 2), []);
    assert_eq!(then(say(200), 1), []);
    assert_eq!(then(say(500), 3), change(State::Down, false, "HTTP 500"));
    assert_eq!(then(say(200), 1), []);
    assert_eq!(then(Behaviour::Close, 1), []);
    assert_eq!(then(say(200), 2), change(State::Up, false, "HTTP 200"));
    assert_eq!(then(say(503), 2), change(State::Up, true, "HTTP 503"));
    assert_eq!(then(Behaviour::Silent, 2), []);
    assert_eq!(then(say(204), 1), change(State::Up, false, "HTTP 204"));
}

/// Creates `count` targets on several servers; each server has a limited accept queue.
fn many(count: usize) -> Setup {
    let servers: Vec<_> = (0..4).map(|_| Server::new(say(200))).collect();
    let target = |place: usize| http(servers[place % servers.len()].address(), false);
    let targets = (0..count).map(target).collect();
    Setup::new(servers, targets)
}

#[test]
fn many_targets_are_spread_over_the_interval_and_need_one_look_a_step() {
    let mut setup = many(200);
    setup.step();
    assert_eq!(setup.prober.probes.len(), 1);
    setup.run(SETTINGS.interval);
    // One per tick, and a few that take another one.
    assert!(setup.servers.iter().all(|server| (48..=52).contains(&server.accepted)));
    setup.run(10 * TICK);
    let up = |setup: &Setup| setup.prober.stats().iter().filter(|it| it.successes > 0).count();
    assert_eq!((up(&setup), setup.steps), (200, 1 + 200 + 10));
}

#[test]
fn what_is_due_all_at_once_is_begun_bit_by_bit() {
    let mut setup = many(200);
    // No step for ten intervals: each target is probed once after that, not ten times.
    setup.now += 10 * SETTINGS.interval;
    let begun = |setup: &Setup| {
        let over: u64 = setup.prober.stats().iter().map(|it| it.successes + it.failures).sum();
        over as usize + setup.prober.probes.len()
    };
    for step in 1..=200usize.div_ceil(STARTS) + 10 {
        setup.step();
        assert_eq!(begun(&setup), (step * STARTS).min(200));
        setup.prober.wait(TICK);
        setup.now += TICK / 10;
    }
    let stats = setup.prober.stats();
    assert!(stats.iter().all(|it| (it.successes, it.failures) == (1, 0)), "{stats:?}");
}

#[test]
fn a_pause_of_the_prober_is_not_held_against_a_server() {
    let mut setup = Setup::with_http_check(say(200), false);
    setup.step();
    // Connected long ago, but the request has not been sent yet.
    setup.now += 5 * SETTINGS.timeout;
    assert_eq!(setup.first_result(), (State::Up, false, "HTTP 200".to_owned()));
}

#[test]
fn a_target_without_a_socket_fails() {
    let settings = SETTINGS;
    let targets = vec![tcp(unheard().1)];
    let start = Instant::now();
    let none = |_| Err(Failure::NoSocket(Errno::EMFILE));
    let mut prober = Prober::with(settings, targets, start, none);
    let step = |number: u32| prober.step(start + number * settings.interval).collect::<Vec<_>>();
    let changes: Vec<_> = (0..4).flat_map(step).collect();
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].to, &*changes[0].reason),
        (State::Down, "no socket: too many open files")
    );
    assert_eq!(prober.health(0).failures(), 4);
}

#[test]
fn nothing_to_probe_is_nothing_to_do() {
    let start = Instant::now();
    let mut prober = Prober::new(SETTINGS, Vec::new(), start);
    assert_eq!(prober.step(start + seconds(9)).count(), 0);
    prober.wait(Duration::from_micros(1));
    assert!(prober.is_empty() && prober.stats().is_empty());
}
