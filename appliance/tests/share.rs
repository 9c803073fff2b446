//! Gateways that share what they have learned through a real server of Redis.

#[path = "share/gateway.rs"]
mod gateway;
#[path = "share/server.rs"]
mod server;

use std::time::Duration;

use firstack::config::StoreServer;
use redis::Commands;

use gateway::{Gateway, REPLICAS, settings, together, until};
use server::Server;

#[test]
fn a_gateway_tries_what_another_has_learned_in_the_order_of_its_times() {
    let server = Server::start(&[]);
    let mut first = Gateway::new(settings(server.unix()));
    let mut second = Gateway::new(settings(server.unix()));
    for (replica, ms) in REPLICAS.iter().zip([40, 10, 25]) {
        first.hears(replica, Some(ms));
    }
    together(&mut [&mut first, &mut second], |gateways| gateways[1].known().len() == 3);

    let plan = second.plan();
    let numbers = plan.best.iter().chain(&plan.trial);
    let candidates: Vec<_> = numbers.map(|number| plan.candidate(*number).unwrap()).collect();
    let order: Vec<_> = candidates.iter().map(|site| site.address.to_string()).collect();
    assert_eq!(order, [REPLICAS[1], REPLICAS[2], REPLICAS[0]]);
    // Nothing is believed: no rank, and all copies are asked of the switch until one has answered.
    assert!(candidates.iter().all(|candidate| candidate.rank.is_none()));
    assert_eq!(plan.copies, pipeline::wire::copies::CopiesWanted::ALL);
    assert!(second.known().iter().all(|site| site.answered == 0 && site.direct_us.is_none()));

    // What was only read is not written: the second gateway has nothing of its own.
    let stats = second.stats();
    assert_eq!((stats.state.as_str(), stats.imported, stats.exported), ("connected", 3, 0));
    assert_eq!((stats.refused, stats.why.as_str()), (0, ""));
    assert!(first.stats().exported >= 3);
    assert_eq!(first.stats().imported, 0, "a gateway takes nothing of its own");

    let mut client = server.client();
    let fields: Vec<String> = client.hkeys("firstack:shop:v4").unwrap();
    assert_eq!(fields.len(), 3);
    let value: String = client.hget("firstack:shop:v4", "198.51.100.0/24").unwrap();
    assert!(
        value.starts_with(r#"{"address":"198.51.100.10","direct_us":40000,"heard":"#),
        "{value}"
    );
    let expires: i64 = client.ttl("firstack:shop:v4").unwrap();
    assert!((1..=600).contains(&expires), "{expires}");
}

#[test]
fn a_direct_time_is_not_replaced_by_none() {
    let server = Server::start(&[]);
    let mut first = Gateway::new(settings(server.unix()));
    let mut second = Gateway::new(settings(server.unix()));
    first.hears(REPLICAS[0], Some(40));
    second.hears(REPLICAS[0], None);
    second.hears(REPLICAS[1], None);
    together(&mut [&mut first, &mut second], |gateways| gateways[0].known().len() == 2);
    let mut client = server.client();
    let mut has_time = || {
        let value: String = client.hget("firstack:shop:v4", "198.51.100.0/24").unwrap();
        value.contains(r#""direct_us":40000"#)
    };
    // Whoever writes first may write none. Once there is a time, both have to see it.
    let mut seen = 0;
    together(&mut [&mut first, &mut second], |_| {
        seen = if has_time() { seen + 1 } else { 0 };
        seen == 20
    });
    for _ in 0..20 {
        together(&mut [&mut first, &mut second], |_| true);
        assert!(has_time());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_others_write_is_refused_unless_it_could_win() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let key = "firstack:shop:v4";
    let now = gateway::unix_now();
    let entry = |address: &str, heard: u64| {
        format!(r#"{{"address":"{address}","direct_us":1,"heard":{heard},"gateway":"other"}}"#)
    };
    let long = "a".repeat(60_000);
    let fields = [
        ("203.0.113.0/24", entry("203.0.113.9", now)),
        ("198.51.100.0/24", entry("203.0.113.9", now)),
        ("2001:db8::/64", entry("2001:db8::1", now)),
        ("198.51.101.0/24", entry("198.51.101.10", now + 3600)),
        ("198.51.102.0/24", "[[[[".to_owned()),
        ("junk", "junk".to_owned()),
        ("long", long),
        ("198.51.103.0/24", entry("198.51.103.10", now)),
        ("198.51.100.128/25", entry("198.51.100.200", now - 3600)),
    ];
    let _: () = client.hset_multiple(key, &fields).unwrap();
    let _: () = client.set("firstack:shop:v6", "no hash").unwrap();
    let mut gateway = Gateway::new(settings(server.unix()));
    gateway.hears(REPLICAS[2], Some(7));
    until(&mut gateway, |gateway| gateway.known().len() == 2);
    until(&mut gateway, |gateway| gateway.stats().refused >= 2 * 8);
    let known: Vec<_> = gateway.known().iter().filter_map(|site| site.address).collect();
    assert_eq!(
        known.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [REPLICAS[2], "198.51.103.10"]
    );
    assert_eq!(gateway.stats().imported, 1);
    // What has expired is gone, and what is refused is left to who has written it, unless it stands
    // where an own entry belongs.
    let expired: Option<String> = client.hget(key, "198.51.100.128/25").unwrap();
    assert_eq!(expired, None);
    let count: usize = client.hlen(key).unwrap();
    assert_eq!(count, 8);
    let own: String = client.hget(key, "198.51.102.0/24").unwrap();
    assert!(own.contains(REPLICAS[2]), "{own}");
}

#[test]
fn a_hash_has_at_most_32_fields_and_takes_no_place_from_what_was_heard() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let now = gateway::unix_now();
    for site in 0..100 {
        let value = format!(
            r#"{{"address":"198.18.{site}.1","direct_us":0,"heard":{now},"gateway":"other"}}"#
        );
        let _: () = client.hset("firstack:shop:v4", format!("198.18.{site}.0/24"), value).unwrap();
    }
    let mut gateway = Gateway::new(settings(server.unix()));
    gateway.hears(REPLICAS[0], Some(50));
    until(&mut gateway, |gateway| gateway.known().len() == 32);
    // A replica that answers itself gets a place.
    gateway.hears(REPLICAS[1], None);
    gateway.hears(REPLICAS[2], None);
    let exchanges = gateway.stats().refused;
    until(&mut gateway, |gateway| gateway.stats().refused > exchanges + 3);
    let known: Vec<_> = gateway.known().iter().filter(|site| site.answered > 0).cloned().collect();
    assert_eq!(known.len(), 3, "{known:?}");
    assert_eq!(gateway.known().len(), 32);
    let count: usize = client.hlen("firstack:shop:v4").unwrap();
    assert_eq!(count, 100, "nothing is added to a hash that is full");
}

#[test]
fn what_nobody_hears_any_more_expires_from_the_store() {
    let server = Server::start(&[]);
    let mut short = settings(server.unix());
    short.hashes.iter_mut().for_each(|hash| hash.memory = Duration::from_millis(1500));
    let mut gateway = Gateway::new(short);
    gateway.hears(REPLICAS[0], Some(40));
    let mut client = server.client();
    let mut exists = move || -> bool { client.exists("firstack:shop:v4").unwrap() };
    until(&mut gateway, |_| exists());
    gateway.forgets();
    until(&mut gateway, |_| !exists());
    assert_eq!(gateway.stats().state, "connected");
}

#[test]
fn a_store_that_is_killed_and_comes_back_is_two_lines_in_the_log() {
    let lines = server::log();
    let mut server = Server::start(&[]);
    let mut gateway = Gateway::new(settings(server.unix()));
    gateway.hears(REPLICAS[0], Some(40));
    until(&mut gateway, |gateway| gateway.stats().state == "connected");
    server.kill();
    until(&mut gateway, |gateway| gateway.stats().state == "away");
    // It fails several times more.
    let away = std::time::Instant::now();
    until(&mut gateway, |_| away.elapsed() > Duration::from_secs(4));
    server.restart();
    until(&mut gateway, |gateway| gateway.stats().state == "connected");
    let mut client = server.client();
    until(&mut gateway, |_| client.exists("firstack:shop:v4").unwrap());
    let lines = lines.about(&server);
    let [connected, away, again] = &lines[..] else { panic!("{lines:#?}") };
    assert!(connected.contains("INFO") && connected.contains("store connected"), "{connected}");
    assert!(away.contains("WARN") && away.contains("store away"), "{away}");
    assert!(again.contains("INFO") && again.contains("store connected"), "{again}");
}

#[test]
fn a_store_that_hangs_keeps_nobody_waiting() {
    let server = Server::start(&[]);
    let mut gateway = Gateway::new(settings(server.unix()));
    gateway.hears(REPLICAS[0], Some(40));
    until(&mut gateway, |gateway| gateway.stats().state == "connected");
    let stopped = server.stop();
    // Far more steps than the channels hold; none of them returns before the thread takes a
    // snapshot, if any waits for it.
    for _ in 0..1000 {
        gateway.step();
    }
    until(&mut gateway, |gateway| gateway.stats().state == "away");
    assert_eq!(gateway.stats().why, "no answer in time");
    // A gateway that starts now does not wait either.
    let mut late = Gateway::new(settings(server.unix()));
    until(&mut late, |gateway| gateway.stats().state == "away");
    drop(stopped);
    until(&mut gateway, |gateway| gateway.stats().state == "connected");
    until(&mut late, |gateway| gateway.known().len() == 1);
}

#[test]
fn a_store_that_is_not_there_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let server = StoreServer::Unix(directory.path().join("none"));
    let mut gateway = Gateway::new(settings(server));
    assert_eq!(gateway.stats().state, "connecting");
    until(&mut gateway, |gateway| gateway.stats().state == "away");
    assert!(gateway.stats().why.contains("No such file"), "{}", gateway.stats().why);
    let shown = gateway.stats().to_string();
    assert!(shown.contains("/none: away since "), "{shown}");
}

#[test]
fn a_wrong_password_is_reported_and_the_right_one_accepted() {
    let server = Server::start(&["--requirepass", "open sesame"]);
    for (user, password, good) in [
        (None, "open sesame\n", true),
        (Some("default"), "open sesame", true),
        (None, "sesame\n", false),
        (Some("nobody"), "open sesame\n", false),
    ] {
        let file = server::secret(password);
        let mut settings = settings(server.unix());
        settings.user = user.map(str::to_owned);
        settings.password = Some(firstack::control::share::Password::load(file.path()).unwrap());
        let mut gateway = Gateway::new(settings);
        until(&mut gateway, |gateway| gateway.stats().state != "connecting");
        let stats = gateway.stats();
        assert_eq!(stats.state, if good { "connected" } else { "away" }, "{stats}");
        assert_eq!(stats.why.contains("WRONGPASS"), !good, "{stats}");
    }
    let mut gateway = Gateway::new(settings(server.unix()));
    until(&mut gateway, |gateway| gateway.stats().state != "connecting");
    assert!(gateway.stats().why.contains("NOAUTH"), "{}", gateway.stats());
}

#[test]
fn the_user_of_the_documentation_may_do_what_is_needed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rule = page.lines().find_map(|line| line.strip_prefix("ACL SETUSER ")).unwrap();
    let rule = rule.replace("PASSWORD", "sesame");
    let words: Vec<_> = ["--user"].into_iter().chain(rule.split(' ')).collect();
    let server = Server::start(&words);
    let file = server::secret("sesame");
    let settings = firstack::control::share::Settings {
        user: Some(words[1].to_owned()),
        password: Some(firstack::control::share::Password::load(file.path()).unwrap()),
        database: 1,
        ..settings(server.unix())
    };
    let (mut first, mut second) = (Gateway::new(settings.clone()), Gateway::new(settings));
    first.hears(REPLICAS[0], Some(40));
    together(&mut [&mut first, &mut second], |gateways| gateways[1].known().len() == 1);
    let mut client =
        redis::Client::open(format!("redis+unix://{}?db=1", server.socket().display()))
            .unwrap()
            .get_connection()
            .unwrap();
    let old = r#"{"address":"198.51.101.10","direct_us":1,"heard":1,"gateway":"other"}"#;
    let _: () = client.hset("firstack:shop:v4", "198.51.101.0/24", old).unwrap();
    until(&mut first, |_| client.hlen::<_, usize>("firstack:shop:v4").unwrap() == 1);
    assert_eq!(first.stats().state, "connected");
}

#[test]
fn a_store_is_reached_by_tcp_and_its_database_selected() {
    let server = Server::start_tcp();
    let tcp = settings(server.tcp());
    let mut first = Gateway::new(firstack::control::share::Settings { database: 3, ..tcp.clone() });
    let mut second =
        Gateway::new(firstack::control::share::Settings { database: 3, ..tcp.clone() });
    let mut other = Gateway::new(tcp);
    first.hears(REPLICAS[0], Some(40));
    together(&mut [&mut first, &mut second, &mut other], |gateways| {
        gateways[1].known().len() == 1 && gateways[2].stats().state == "connected"
    });
    assert!(other.known().is_empty());
    let mut client = server.client();
    let there: bool = client.exists("firstack:shop:v4").unwrap();
    assert!(!there, "database 0 is another");
}
