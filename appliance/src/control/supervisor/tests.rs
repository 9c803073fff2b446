use std::net::TcpListener;
use std::sync::Mutex;

use pipeline::base::published::Published;
use pipeline::role::replica::Admission;

use super::*;
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
