use std::net::TcpListener;
use std::sync::Mutex;

use pipeline::base::published::Published;
use pipeline::policy::drain::{Count, Drain};
use pipeline::role::replica::Admission;

use super::*;
use crate::control::drains::Drains;
use crate::roles::Member;

/// Each list of member states that the workers were given.
type Applied = Arc<Mutex<Vec<Vec<bool>>>>;

fn controls(admission: &Arc<Admission>, applied: &Applied, members: Vec<Member>) -> Controls {
    let applied = Arc::clone(applied);
    Controls {
        keys: Published::new(pipeline::stage::sign::Keys::default()),
        unix: pipeline::base::time::UnixClock::default(),
        key_file: None,
        members,
        apply: Box::new(move |up| applied.lock().unwrap().push(up.to_vec())),
        tunnels: None,
        admission: Some(Arc::clone(admission)),
        drain: None,
        busy_file: None,
        busy_check: None,
        neighbours: None,
        memory: None,
        carried: crate::roles::Carried::default(),
    }
}

fn supervise(controls: Controls) -> Supervisor {
    let health = config::Health {
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(20),
        rise: 1,
        fall: 2,
    };
    let labels = Labels { role: "replica", ..Labels::default() };
    Supervisor::new(labels, Vec::new(), controls, &health)
}

/// Rounds until it is so, for a minute at most: the machine may be busy.
fn comes_true(supervisor: &mut Supervisor, what: impl Fn(&Supervisor) -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        supervisor.run_once(Duration::from_millis(5));
        if what(supervisor) {
            return true;
        }
    }
    false
}

#[test]
fn a_busy_file_and_an_operator_each_make_the_replica_busy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busy");
    let admission = Arc::new(Admission::default());
    let mut supervisor = supervise(Controls {
        busy_file: Some(path.clone()),
        ..controls(&admission, &Applied::default(), Vec::new())
    });
    let busy = || admission.busy.load(Relaxed);
    assert!(!busy());
    std::fs::write(&path, "").unwrap();
    assert!(comes_true(&mut supervisor, |_| busy()));
    assert_eq!(supervisor.snapshot().admission, ["busy (busy_file or busy_check)"]);
    assert!(matches!(supervisor.answer(Command::Busy), Answer::Done(_)));
    std::fs::remove_file(&path).unwrap();
    assert!(comes_true(&mut supervisor, |s| s.snapshot().admission == ["busy (set by operator)"]));
    assert!(busy());
    supervisor.answer(Command::Unbusy);
    assert!(!busy());
}

#[test]
fn members_go_out_of_service_by_their_probes_and_by_operator() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let check = |target| Some(Check { target, http: None });
    let member = |name: &str, check| Member { name: name.to_owned(), enabled: true, check };
    let address = listener.local_addr().unwrap();
    let members = vec![member("web/a", check(address)), member("web/b", None)];
    let applied = Applied::default();
    let mut supervisor = supervise(controls(&Arc::default(), &applied, members));
    let last = || applied.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last(), [true, true]);
    drop(listener);
    assert!(comes_true(&mut supervisor, |_| last() == [false, true]));
    assert_eq!(supervisor.snapshot().out_of_service, ["web/a: health check failed"]);
    let name = |text: &str| text.parse::<Name>().unwrap();
    supervisor.answer(Command::Drain { name: Some(name("web/b")) });
    assert_eq!(last(), [false, false]);
    let unknown = supervisor.answer(Command::Drain { name: Some(name("web/c")) });
    assert!(
        matches!(unknown, Answer::Error(text) if text == "unknown server or replica \"web/c\"; known: web/a, web/b")
    );
    supervisor.answer(Command::Undrain { name: Some(name("web/b")) });
    assert_eq!(last(), [false, true]);
}

/// A switch with the services shop and blog, and one replica.
fn drainable(applied: &Applied) -> (Supervisor, Arc<Drain>) {
    let member = Member { name: "shop/a".to_owned(), enabled: true, check: None };
    let controls = controls(&Arc::default(), applied, vec![member]);
    let drain = Arc::new(Drain::new(2));
    let controls = Controls { admission: None, drain: Some(Arc::clone(&drain)), ..controls };
    let mut supervisor = supervise(controls);
    supervisor.labels.role = "switch";
    supervisor.labels.services = vec!["shop".to_owned(), "blog".to_owned()];
    (supervisor, drain)
}

fn name(text: &str) -> Option<Name> {
    Some(text.parse().unwrap())
}

#[test]
fn the_whole_its_services_and_its_members_are_drained_each_by_itself() {
    let (mut supervisor, drain) = drainable(&Applied::default());
    assert!(supervisor.drains().is_empty());
    for wanted in [None, name("blog"), name("shop/a")] {
        let answer = supervisor.answer(Command::Drain { name: wanted });
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    }
    assert!(drain.is_whole() && drain.is_service(1) && !drain.is_service(0));
    let expected = r#"{"whole":true,"services":["blog"],"members":["shop/a"],"busy":false}"#;
    assert_eq!(serde_json::to_string(&supervisor.drains()).unwrap(), expected);
    let unknown = supervisor.answer(Command::Drain { name: name("bar") });
    let expected = "unknown service, server or replica \"bar\"; known: shop, blog, shop/a";
    assert!(matches!(unknown, Answer::Error(text) if text == expected));
    supervisor.answer(Command::Undrain { name: None });
    assert!(drain.holds(1) && !drain.holds(0), "blog is still drained");
}

#[test]
fn drains_are_restored_and_unknown_names_told() {
    let (applied, drains) = (
        Applied::default(),
        Drains {
            whole: true,
            services: ["gone", "shop"].map(str::to_owned).into(),
            members: ["shop/a", "shop/b"].map(str::to_owned).into(),
            busy: true,
        },
    );
    let (mut supervisor, drain) = drainable(&applied);
    assert_eq!(supervisor.restore_drains(&drains), ["gone", "shop/b"]);
    assert!(drain.is_whole() && drain.is_service(0) && !drain.is_service(1));
    assert_eq!(applied.lock().unwrap().last().unwrap(), &[false]);
    let kept = supervisor.drains();
    assert!(kept.whole && kept.services.contains("shop") && kept.members.contains("shop/a"));
    assert!(!kept.busy, "a switch is never busy");
}

#[test]
fn what_is_left_of_a_drain_is_shown() {
    let (mut supervisor, drain) = drainable(&Applied::default());
    supervisor = supervisor.with_clock(|| Ticks::from_secs(100));
    // Without workers everything is counted.
    supervisor.answer(Command::Drain { name: name("shop") });
    let shown = |supervisor: &Supervisor| {
        supervisor.drained().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(shown(&supervisor), ["drained: shop, no connection left"]);
    let mut count = Count::default();
    count.step(&drain, 3, |place| Some(Some((place % 2, Ticks::from_secs(93)))));
    assert_eq!(shown(&supervisor), ["drained: shop, 2 connections left, last heard 7 s ago"]);
    supervisor.answer(Command::Drain { name: None });
    count.step(&drain, 3, |place| Some(Some((place % 2, Ticks::from_secs(93)))));
    let lines = shown(&supervisor);
    assert_eq!(lines[0], "drained, 3 connections left, last heard 7 s ago");
    assert_eq!(lines.len(), 2);
}
