use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pipeline::base::time::Ticks;
use pipeline::role::Role;
use pipeline::wire::family::Version;

use super::*;
use crate::config::Source;
use crate::control::reload::testing::{Puppets, Watched};
use crate::control::socket::{Command, Name};
use crate::roles::{Carried, Environment, RoleSet, WithRole, with_role_set};

const PORTS: &str =
    "[port.inside]\ndevice = \"net_null0\"\n[port.outside]\ndevice = \"net_null1\"\n";

const SWITCH: &str = r#"[[switch.service]]
name = "shop"
address = "203.0.113.10"
[[switch.service.replica]]
name = "lisbon"
address = "198.51.100.10"
[[switch.service.replica]]
name = "oslo"
address = "198.51.100.20"
[[switch.service.server]]
name = "web1"
delivery = "direct"
mac = "02:00:00:00:00:01"
"#;

const GATEWAY: &str = r#"[[gateway.service]]
name = "shop"
address = "203.0.113.10"
allowed_replicas = ["198.51.100.0/24"]
"#;

const REPLICA: &str = r#"[replica]
switches = ["203.0.113.1"]
[[replica.service]]
name = "shop"
address = "203.0.113.10"
[[replica.service.server]]
name = "web"
address = "198.51.100.10"
"#;

/// A process with two workers that run no packets, and its file.
struct Lab {
    supervisor: Supervisor,
    watched: Watched,
    role: &'static str,
    path: PathBuf,
    directory: tempfile::TempDir,
}

struct Start {
    config: Config,
    source: Source,
    environment: Environment,
    watched: Watched,
}

impl WithRole for Start {
    type Output = Supervisor;

    fn run<R: Role + Send + 'static>(self, set: RoleSet<R>) -> Supervisor {
        let Self { config, source, environment, watched } = self;
        let counters = set.roles.iter().map(Role::counters).collect();
        let workers = Box::new(Puppets::new(set.roles, watched));
        let sharing = roles::sharing(&config, &set.controls.carried.numbers).unwrap();
        let health = config.health;
        let reloading = Reloading::new((source, config), environment, sharing, workers);
        Supervisor::new(set.labels, counters, set.controls, &health)
            .with_clock(|| Ticks::from_secs(77))
            .with_reloading(Some(reloading))
    }
}

impl Lab {
    fn new(role: &'static str, text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f.toml");
        write(&path, role, text);
        let source = Source::read(&path).unwrap();
        let config = source.parse().unwrap_or_else(|errors| panic!("{errors}"));
        let watched = Watched::default();
        let environment = Environment {
            workers: 2,
            macs: [[2; 6]; 2],
            hash_key: (1, 2),
            keys: roles::load_keys(&config).unwrap(),
            probe_id: 3,
            carried: Carried::default(),
        };
        let start = Start {
            config: config.clone(),
            source,
            environment: environment.clone(),
            watched: watched.clone(),
        };
        let supervisor = with_role_set(&config, &environment, start);
        Self { supervisor, watched, role, path, directory }
    }

    fn write(&self, text: &str) {
        write(&self.path, self.role, text);
    }

    /// Reloads another text. Returns the answer without the file's directory.
    fn reload(&mut self, text: &str) -> Answer {
        self.write(text);
        self.answer(Command::Reload { dry_run: false })
    }

    fn answer(&mut self, command: Command) -> Answer {
        let directory = format!("{}/", self.directory.path().display());
        match self.supervisor.answer(command) {
            Answer::Done(text) => Answer::Done(text.replace(&directory, "")),
            Answer::Error(text) => Answer::Error(text.replace(&directory, "")),
            Answer::Invalid(text) => Answer::Invalid(text.replace(&directory, "")),
            other => other,
        }
    }

    fn given(&self) -> usize {
        self.watched.given.get()
    }
}

fn write(path: &Path, role: &str, text: &str) {
    std::fs::write(path, format!("role = {role:?}\n{PORTS}{text}")).unwrap();
}

#[track_caller]
fn done(answer: Answer) -> String {
    match answer {
        Answer::Done(text) => text,
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> Option<Name> {
    Some(text.parse().unwrap())
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_tells_them_all() {
    let mut lab = Lab::new("switch", SWITCH);
    let broken = format!("[timeouts]\nracing = \"soon\"\n[worker]\ncores = [9999]\n{SWITCH}");
    let Answer::Invalid(text) = lab.reload(&broken) else { panic!("taken") };
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "not reloaded, the running configuration stays in force:");
    assert!(
        lines[1].starts_with("f.toml:7: timeouts.racing: \"soon\" is not a duration"),
        "{text}"
    );
    assert!(lines[2].starts_with("f.toml:9: worker.cores[0]: 9999 is out of range"), "{text}");
    let dry = lab.answer(Command::Reload { dry_run: true });
    assert!(matches!(dry, Answer::Invalid(text) if text.starts_with("a reload would be refused")));
    std::fs::remove_file(&lab.path).unwrap();
    let gone = lab.answer(Command::Reload { dry_run: false });
    assert!(matches!(gone, Answer::Invalid(text) if text.contains("f.toml: cannot be read")));
    assert_eq!(lab.given(), 0);
    assert_eq!(done(lab.reload(SWITCH)), "nothing to do: f.toml has no changes");
}

#[test]
fn what_needs_a_restart_is_named_and_then_nothing_is_applied() {
    let mut lab = Lab::new("switch", SWITCH);
    let wanted = format!(
        "[table]\nmax_connections = 9\n[eal]\nargs = [\"-n\", \"4\"]\n[log]\nlevel = \"warn\"\n{SWITCH}"
    );
    let Answer::Error(text) = lab.reload(&wanted) else { panic!("taken") };
    assert_eq!(
        text,
        "not reloaded, nothing was changed; these changes need a restart:\n  \
         changed table.max_connections: 65536 (the default) -> 9 (line 7)\n  \
         changed eal.args: [] (the default) -> [\"-n\", \"4\"] (line 9)"
    );
    let v6 = SWITCH.replace("shop", "shop6").replace("203.0.113.10", "2001:db8::10");
    let v6 = v6.replace("198.51.100.", "2001:db8:1::");
    let Answer::Error(text) = lab.reload(&format!("{SWITCH}{v6}")) else { panic!("taken") };
    assert!(text.contains("the first IPv6 service"), "{text}");
    assert_eq!(lab.given(), 0);
    // Compared with what is in force, not with what was refused.
    assert_eq!(done(lab.reload(SWITCH)), "nothing to do: f.toml has no changes");
    let mut lab = Lab::new("gateway", GATEWAY);
    let other = format!("[gateway]\nconfiguration = \"B\"\n{GATEWAY}");
    assert!(
        matches!(lab.reload(&other), Answer::Error(text) if text.contains("gateway.configuration"))
    );
}

#[test]
fn a_dry_run_answers_the_same_and_changes_nothing() {
    let mut lab = Lab::new("switch", SWITCH);
    let wanted = format!("[timeouts]\nracing = \"20s\"\n{SWITCH}");
    lab.write(&wanted);
    let change = "\n  changed timeouts.racing: \"40s\" (the default) -> \"20s\" (line 7)";
    for _ in 0..2 {
        let text = done(lab.answer(Command::Reload { dry_run: true }));
        assert_eq!(text, format!("a reload of f.toml would make these changes:{change}"));
    }
    assert_eq!(lab.given(), 0);
    assert_eq!(done(lab.reload(&wanted)), format!("reloaded f.toml:{change}"));
    assert_eq!((lab.given(), lab.watched.capacity.get()), (1, 32));
}

#[test]
fn members_that_stay_keep_their_state() {
    let mut lab = Lab::new("switch", SWITCH);
    done(lab.answer(Command::Drain { name: name("shop/oslo") }));
    let wanted = SWITCH.replace("lisbon", "rome").replace("198.51.100.10", "198.51.100.30");
    let wanted = format!(
        "{wanted}weight = 2\n[[switch.service.server]]\nname = \"web2\"\ndelivery = \"direct\"\n\
         mac = \"02:00:00:00:00:02\"\n"
    );
    let text = done(lab.reload(&wanted));
    assert_eq!(
        text,
        "reloaded f.toml:\n  \
         added switch.service[shop].replica[rome] (line 9)\n  \
         changed switch.service[shop].server[web1].weight: 1 (the default) -> 2 (line 19)\n  \
         added switch.service[shop].server[web2] (line 20)\n  \
         removed switch.service[shop].replica[lisbon] (was line 9)"
    );
    let snapshot = lab.supervisor.snapshot();
    assert_eq!(snapshot.out_of_service, ["shop/oslo: drained"]);
    let names = |list: &[crate::control::stats::Named]| -> Vec<String> {
        list.iter().map(|named| named.name.clone()).collect()
    };
    assert_eq!(names(&snapshot.copies), ["shop/rome", "shop/oslo"]);
    assert_eq!(names(&snapshot.syns), ["shop/web1", "shop/web2"]);
    let unknown = lab.answer(Command::Drain { name: name("shop/lisbon") });
    assert!(
        matches!(unknown, Answer::Error(text) if text.contains("known: shop, shop/rome, shop/oslo"))
    );
    // The one that leaves has no name any more, and keeps its number.
    let without = wanted.replace("mac = \"02:00:00:00:00:01\"", "mac = \"02:00:00:00:00:03\"");
    done(lab.reload(&without));
    let snapshot = lab.supervisor.snapshot();
    assert_eq!(names(&snapshot.syns), ["shop/web2", "shop/web1"]);
    let known = &lab.supervisor.controls.carried.numbers.services()[0].servers;
    assert_eq!(known.len(), 3);
    assert!(known[0].retired.is_some());
}

#[test]
fn undrain_tells_what_the_file_disables() {
    let disabled = SWITCH
        .replace("address = \"198.51.100.10\"", "address = \"198.51.100.10\"\nenabled = false");
    let mut lab = Lab::new("switch", &disabled);
    done(lab.answer(Command::Drain { name: name("shop/lisbon") }));
    let undrained =
        |lab: &mut Lab, member| done(lab.answer(Command::Undrain { name: name(member) }));
    assert_eq!(
        undrained(&mut lab, "shop/lisbon"),
        "shop/lisbon: undrained, but disabled in the file (line 12): gets no connections until that \
         is changed and reloaded"
    );
    assert_eq!(undrained(&mut lab, "shop/oslo"), "shop/oslo undrained");
    done(lab.reload(SWITCH));
    assert_eq!(undrained(&mut lab, "shop/lisbon"), "shop/lisbon undrained");
    assert_eq!(lab.supervisor.snapshot().out_of_service, [""; 0]);
}

#[test]
fn a_worker_that_is_late_is_told_and_takes_it_later() {
    let mut lab = Lab::new("switch", SWITCH);
    lab.watched.asleep.set(true);
    let renamed = SWITCH.replace("lisbon", "rome");
    let text = done(lab.reload(&renamed));
    assert!(
        text.ends_with("\nworkers 0, 1 have not taken it over yet; the log will tell"),
        "{text}"
    );
    // The counters are still those before.
    let copies = |lab: &Lab| lab.supervisor.snapshot().copies[0].name.clone();
    assert_eq!(copies(&lab), "shop/lisbon");
    let again = lab.reload(SWITCH);
    let expected =
        "not reloaded: workers 0, 1 have not taken over what was reloaded before; try again";
    assert!(matches!(again, Answer::Error(text) if text == expected));
    let waiting = lab.supervisor.reloading.as_mut().unwrap();
    waiting.given = waiting.given.and_then(|given| given.checked_sub(LATE));
    lab.supervisor.note_taken();
    assert!(lab.supervisor.late_logged);
    lab.watched.asleep.set(false);
    lab.supervisor.run_once(Duration::ZERO);
    assert_eq!((copies(&lab).as_str(), lab.supervisor.late_logged), ("shop/rome", false));
    assert!(done(lab.reload(SWITCH)).starts_with("reloaded"));
    assert_eq!((copies(&lab).as_str(), lab.given()), ("shop/lisbon", 2));
}

fn write_keys(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn keys_are_reloaded_with_the_file_and_a_rejected_key_file_keeps_them() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    write_keys(&keys, "7 000102030405060708090a0b0c0d0e0f\n");
    let with_keys = format!("[tag]\nkeys = {keys:?}\n{SWITCH}");
    let mut lab = Lab::new("switch", &with_keys);
    let mut reader = lab.supervisor.controls.keys.reader();
    assert_eq!(done(lab.reload(&with_keys)), "nothing to do: f.toml has no changes");
    write_keys(&keys, "7 000102030405060708090a0b0c0d0e0f\n8 ff0102030405060708090a0b0c0d0e0f\n");
    assert_eq!(done(lab.reload(&with_keys)), "reloaded f.toml:\n  added key 8");
    assert!(reader.refresh());
    assert_eq!((format!("{:?}", reader.get()), lab.given()), ("{7, 8}".to_owned(), 0));
    write_keys(&keys, "7 nonsense\n");
    let Answer::Invalid(text) = lab.reload(&with_keys) else { panic!("taken") };
    assert!(text.contains(":1: character 1 of the key is no hexadecimal digit"), "{text}");
    assert!(!reader.refresh());
    // With other changes they come with the roles.
    write_keys(&keys, "9 000102030405060708090a0b0c0d0e0f\n");
    let text = done(lab.reload(&with_keys.replace("lisbon", "rome")));
    assert!(text.ends_with("\n  removed key 7\n  removed key 8\n  added key 9"), "{text}");
    assert_eq!(format!("{:?}", lab.supervisor.controls.keys.current()), "{9}");
    // Clients are still divided as they were.
    let given = |lab: &Lab| lab.watched.environment.borrow().as_ref().unwrap().carried.clone();
    done(lab.reload(&with_keys));
    assert!(given(&lab).selection_key.is_some());
    assert_eq!(given(&lab).selection_key, lab.supervisor.controls.carried.selection_key);
}

#[test]
fn the_workers_know_the_time_of_day_before_they_start_and_after_a_reload() {
    let mut lab = Lab::new("replica", REPLICA);
    let ticks = Ticks::from_secs(77);
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let is_now = |seconds: u64| (today..today + 60).contains(&seconds);
    assert!(is_now(lab.supervisor.controls.unix.seconds(ticks)));
    // A clock that is corrected while the process runs.
    lab.supervisor.controls.unix.set(Duration::ZERO, ticks);
    lab.supervisor.run_once(Duration::ZERO);
    assert!(is_now(lab.supervisor.controls.unix.seconds(ticks)));
    done(lab.reload(&REPLICA.replace("[replica]\n", "[replica]\ndirect = false\n")));
    let keys = lab.supervisor.controls.keys.current();
    assert!((today / 64..=today / 64 + 1).contains(&keys.at(ticks).epoch().0.into()));
}

#[test]
fn a_replica_stays_drained_and_busy_until_the_file_says_otherwise() {
    let mut lab = Lab::new("replica", REPLICA);
    done(lab.answer(Command::Drain { name: None }));
    done(lab.answer(Command::Busy));
    let busy = ["drained", "busy (set by operator)"];
    let other = REPLICA.replace("[replica]\n", "[replica]\nbusy_syn_rate = 5\n");
    done(lab.reload(&other));
    assert_eq!(lab.supervisor.snapshot().admission, busy);
    done(lab.answer(Command::Undrain { name: None }));
    let drained = other.replace("[replica]\n", "[replica]\ndrained = true\n");
    done(lab.reload(&drained));
    assert_eq!(lab.supervisor.snapshot().admission, busy);
    done(lab.reload(&other));
    assert_eq!(lab.supervisor.snapshot().admission, busy[1..]);
}

#[test]
fn a_service_that_leaves_a_gateway_keeps_its_number() {
    let blog = GATEWAY.replace("shop", "blog").replace("113.10", "113.20");
    let mut lab = Lab::new("gateway", &format!("{GATEWAY}{blog}"));
    done(lab.reload(&blog));
    assert_eq!(lab.supervisor.labels.services, ["shop (removed)", "blog"]);
    assert_eq!(lab.supervisor.controls.carried.policies.len(), 2);
    let memory = lab.supervisor.controls.memory.as_ref().unwrap();
    let plans = memory.plans();
    assert!(plans.get().of(1, Version::V4).is_some());
    let unknown = lab.answer(Command::Forget { name: name("shop") });
    assert!(matches!(unknown, Answer::Error(_)), "{unknown:?}");
    done(lab.answer(Command::Forget { name: name("blog") }));
    done(lab.reload(&format!("{blog}{GATEWAY}")));
    assert_eq!(lab.supervisor.labels.services, ["shop", "blog"]);
}

#[test]
fn numbers_that_cannot_be_stored_stop_the_reload() {
    let mut lab = Lab::new("switch", SWITCH);
    let refuse = |_: &crate::roles::numbers::Numbers| Err(std::io::Error::other("no space left"));
    let reloading = lab.supervisor.reloading.take();
    lab.supervisor.reloading = reloading.map(|own| own.with_persist(Box::new(refuse)));
    let renamed = lab.reload(&SWITCH.replace("lisbon", "rome"));
    assert!(matches!(renamed, Answer::Error(text) if text.contains("no space left")));
    assert_eq!((lab.given(), lab.supervisor.labels.replicas[0].as_str()), (0, "shop/lisbon"));
}

/// A value for each live key that differs from its default, within a file that is accepted.
#[test]
fn every_live_key_of_a_file_reaches_the_roles_or_the_supervisor() {
    let cases = [
        ("gateway", GATEWAY, "[timeouts]\nracing = \"7s\"\n"),
        ("gateway", GATEWAY, "[tunnel]\nformat = \"gre\"\n"),
        ("gateway", GATEWAY, "[tag]\nkind = 254\nexid = 7\n"),
        ("gateway", GATEWAY, "[gateway]\nallowed_clients = [\"198.18.0.0/15\"]\n"),
        ("switch", SWITCH, "[switch]\nmax_copies = 3\nfan_out_rate = 7\n"),
        ("switch", SWITCH, "[switch]\ntunnel_probes = false\n"),
        ("switch", SWITCH, "[health]\ninterval = \"7s\"\n"),
        ("switch", SWITCH, "[switch]\nhash_key = \"00112233445566778899aabbccddeeff\"\n"),
    ];
    for (role, text, change) in cases {
        let mut lab = Lab::new(role, text);
        let answer = done(lab.reload(&format!("{change}{text}")));
        assert!(answer.starts_with("reloaded f.toml:\n  changed "), "{answer}");
        assert_eq!(lab.given(), 1, "{change}");
        // And back again.
        done(lab.reload(text));
        assert_eq!(lab.given(), 2, "{change}");
    }
    // The level of the log concerns nobody else.
    let mut lab = Lab::new("switch", SWITCH);
    done(lab.reload(&format!("[log]\nlevel = \"error\"\n{SWITCH}")));
    assert_eq!(lab.given(), 0);
}
