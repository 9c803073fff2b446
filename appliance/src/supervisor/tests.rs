use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;

use pipeline::role::replica::Gates;
use pipeline::shared::Published;

use super::*;
use crate::roles::Member;

/// What the workers were told of the members, each time.
type Told = Arc<Mutex<Vec<Vec<bool>>>>;

fn levers(gates: &Arc<Gates>, told: &Told, members: Vec<Member>) -> Levers {
    let told = Arc::clone(told);
    Levers {
        keys: Published::new(pipeline::stage::sign::Keys::default()),
        key_file: None,
        members,
        apply: Box::new(move |up| told.lock().unwrap().push(up.to_vec())),
        tunnels: None,
        gates: Some(Arc::clone(gates)),
        busy_file: None,
        busy_check: None,
        neighbours: None,
    }
}

fn supervise(levers: Levers) -> Supervisor {
    let health = config::Health {
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(20),
        rise: 1,
        fall: 2,
    };
    let names = Names { role: "replica", ..Names::default() };
    Supervisor::new(names, Vec::new(), levers, &health)
}

/// Rounds until it is so, for a minute at most: the machine may be busy.
fn comes_true(supervisor: &mut Supervisor, what: impl Fn(&Supervisor) -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        supervisor.round(Duration::from_millis(5));
        if what(supervisor) {
            return true;
        }
    }
    false
}

#[test]
fn a_file_makes_the_replica_busy_while_it_is_there_and_an_order_as_long_as_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busy");
    let gates = Arc::new(Gates::default());
    let mut supervisor = supervise(Levers {
        busy_file: Some(path.clone()),
        ..levers(&gates, &Told::default(), Vec::new())
    });
    let busy = || gates.busy.load(Relaxed);
    assert!(!busy());
    std::fs::write(&path, "").unwrap();
    assert!(comes_true(&mut supervisor, |_| busy()));
    assert_eq!(supervisor.snapshot().gates, ["busy by signal"]);
    assert!(matches!(supervisor.answer(Command::Busy), Answer::Done(_)));
    std::fs::remove_file(&path).unwrap();
    assert!(comes_true(&mut supervisor, |s| s.snapshot().gates == ["busy by order"]));
    assert!(busy());
    supervisor.answer(Command::Unbusy);
    assert!(!busy());
}

#[test]
fn members_go_and_come_back_by_their_probes_and_by_order() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let check = |target| Some(Check { target, http: None });
    let member = |name: &str, check| Member { name: name.to_owned(), enabled: true, check };
    let address = listener.local_addr().unwrap();
    let members = vec![member("web/a", check(address)), member("web/b", None)];
    let told = Told::default();
    let mut supervisor = supervise(levers(&Arc::default(), &told, members));
    let last = || told.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last(), [true, true]);
    drop(listener);
    assert!(comes_true(&mut supervisor, |_| last() == [false, true]));
    assert_eq!(supervisor.snapshot().out, ["web/a: down"]);
    let name = |text: &str| text.parse::<Name>().unwrap();
    supervisor.answer(Command::Drain { name: Some(name("web/b")) });
    assert_eq!(last(), [false, false]);
    let unknown = supervisor.answer(Command::Drain { name: Some(name("web/c")) });
    assert!(matches!(unknown, Answer::Error(text) if text.contains("web/a, web/b")));
    supervisor.answer(Command::Undrain { name: Some(name("web/b")) });
    assert_eq!(last(), [false, true]);
}

fn write_keys(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn keys_are_read_again_and_a_bad_file_leaves_them_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let mut supervisor = supervise(Levers {
        key_file: Some((path.clone(), keys::Purpose::Check)),
        ..levers(&Arc::default(), &Told::default(), Vec::new())
    });
    let mut reader = supervisor.levers.keys.reader();
    write_keys(&path, "7 000102030405060708090a0b0c0d0e0f\n");
    assert!(matches!(supervisor.answer(Command::Reload), Answer::Done(text) if text == "keys: 7"));
    assert!(reader.refresh());
    assert_eq!(format!("{:?}", reader.get()), "{7}");
    write_keys(&path, "7 nonsense\n");
    assert!(matches!(supervisor.answer(Command::Reload), Answer::Error(_)));
    assert!(!reader.refresh());
}
