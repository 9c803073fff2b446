//! The laboratory with real namespaces: `firstack-wan` between a client and web servers.
//!
//! Needs root, nginx and curl; without root every test fails and says so.
//!
//! The machine may be busy, so a packet may be late, but none is early: that a delay is no longer
//! than asked for is tested on a virtual clock, beside the emulator.

use std::path::Path;
use std::time::{Duration, Instant};

use firstack_tests::demo::client::{OpenConnections, burst, connect_from, request};
use firstack_tests::demo::world::World;
use firstack_tests::lab::wan::{LinkConfig, Report};
use firstack_tests::lab::{
    Content, Curl, Family, Fetched, Lab, LabError, Place, SWITCH_BESIDE_ORIGIN,
    SWITCH_NEAR_CLIENTS, Site, Topology, TopologyBuilder, WebServer, run,
};

/// Ends a test with the message of an error, not with its innards.
trait OrFail<T> {
    fn or_fail(self) -> T;
}

impl<T> OrFail<T> for Result<T, LabError> {
    #[track_caller]
    fn or_fail(self) -> T {
        self.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Time that a condition has to come true, however busy the machine is.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Looks until something is so, and says whether it came to be in time.
fn comes_true(mut look: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !look() {
        if start.elapsed() > MAX_WAIT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// A WAN between one client and one origin, without appliances, for at most 10 minutes.
fn direct() -> TopologyBuilder {
    let binary = env!("CARGO_BIN_EXE_firstack-wan");
    Topology::builder()
        .direct(true)
        .replicas(0)
        .longest(Duration::from_secs(600))
        .wan_binary(binary)
}

fn fetch(from: &Place, curl: &Curl) -> Fetched {
    let fetched = curl.run(&from.host).or_fail();
    assert_eq!(fetched.status, 200);
    fetched
}

/// Ends the WAN and checks that it accounts for every packet.
#[track_caller]
fn finish(topology: Topology) -> Report {
    let report = topology.finish();
    assert!(!report.0.is_empty(), "the WAN printed no counters");
    report.check_conservation().unwrap_or_else(|error| panic!("{error}\n{report:#?}"));
    for site in [Site::Client, Site::Origin] {
        let port = report.port(&site.name());
        assert_eq!((port.send_failed, port.socket_dropped, port.truncated), (0, 0, 0), "{site}");
    }
    report
}

#[test]
fn forty_milliseconds_one_way_make_a_round_trip_of_eighty() {
    let lab = Lab::new("rtt").or_fail();
    let topology = direct().delay(Site::Client, Site::Origin, 40.0).build(&lab).or_fail();
    let _server = WebServer::start(&lab, topology.origin(), &Content::default()).or_fail();
    let curl = Curl::new(&topology.origin().url("/"));
    let mut connects = Vec::new();
    for _ in 0..9 {
        let fetched = fetch(topology.client(), &curl);
        assert_eq!((fetched.site.as_str(), &fetched.body[..]), ("origin", &b"origin\n"[..]));
        connects.push(fetched.connect);
    }
    connects.sort();
    println!("connect times: {connects:?}");
    assert!(connects[0] >= Duration::from_millis(80), "faster than the WAN: {connects:?}");
    finish(topology);
}

#[test]
fn each_replica_has_its_own_delay() {
    let delay = |topology: &Topology, site: Site| {
        let config = topology.wan_config();
        let [client, site] =
            [Site::Client, site].map(|site| config.port_index(&site.name()).unwrap());
        [(client, site), (site, client)].map(|(from, to)| config.link_between(from, to).delay_ms)
    };
    let lab = Lab::new("sites").or_fail();
    let builder = direct().replicas(2).delay(Site::Client, Site::Replica(1), 5.0);
    let topology = builder.delay(Site::Client, Site::Replica(2), 30.0).build(&lab).or_fail();
    let content = Content::default();
    for (place, milliseconds) in topology.replicas().iter().zip([10, 60]) {
        let _server = WebServer::start(&lab, place, &content).or_fail();
        let curl = Curl::new(&place.url("/"));
        let best = (0..5).map(|_| fetch(topology.client(), &curl).connect).min().unwrap();
        println!("{}: {best:?}", place.site);
        assert!(best >= Duration::from_millis(milliseconds), "faster than the WAN: {best:?}");
        assert_eq!(delay(&topology, place.site), [milliseconds as f64 / 2.0; 2]);
    }
    finish(topology);
}

#[test]
fn sites_are_as_far_from_each_other_as_their_geometry_says() {
    let binary = env!("CARGO_BIN_EXE_firstack-wan");
    for (name, geometry) in [("beside", SWITCH_BESIDE_ORIGIN), ("near", SWITCH_NEAR_CLIENTS)] {
        let lab = Lab::new(name).or_fail();
        let builder = geometry.topology().direct(true).ipv6(true).wan_binary(binary);
        let topology = builder.build(&lab).or_fail();
        let content = Content::default();
        let servers = topology.servers().iter();
        let _servers: Vec<_> =
            servers.map(|place| WebServer::start(&lab, place, &content).or_fail()).collect();
        let replicas = [1, 2].map(|number| geometry.replica_answers_directly(number));
        let expected = [geometry.origin_answers(), replicas[0], replicas[1]];
        for (place, milliseconds) in topology.servers().iter().zip(expected) {
            for family in [Family::V4, Family::V6] {
                let curl = Curl::to(place.web(family), "/");
                let best = (0..3).map(|_| fetch(topology.client(), &curl).connect).min().unwrap();
                println!("{name}: {} over {family}: {best:?}", place.site);
                let least = Duration::from_secs_f64(milliseconds / 1e3);
                assert!(best >= least, "faster than the WAN: {best:?}");
            }
        }
        finish(topology);
    }
}

#[test]
fn a_loss_of_one_passes_nothing() {
    let lab = Lab::new("loss").or_fail();
    let link = LinkConfig { loss: 1.0, both: true, ..LinkConfig::default() };
    let topology = direct().link(Site::Client, Site::Origin, link).build(&lab).or_fail();
    let server = WebServer::start(&lab, topology.origin(), &Content::default()).or_fail();
    let curl = Curl::new(&topology.origin().url("/")).limit(Duration::from_secs(4));
    let error = curl.run(&topology.client().host).expect_err("a packet came through");
    assert!(matches!(error, LabError::Failed { .. }), "{error}");
    assert_eq!(server.access_log(), "");
    let report = finish(topology);
    let there = report.pair("client", "origin");
    assert!(there.offered > 0, "not even a SYN: {there:?}");
    assert_eq!((there.lost, there.delivered), (there.offered, 0));
    assert_eq!(report.pair("origin", "client").offered, 0);
}

#[test]
fn a_transfer_of_20_megabytes_arrives_intact_and_is_counted() {
    let lab = Lab::new("bulk").or_fail();
    let topology = direct().delay(Site::Client, Site::Origin, 2.0).build(&lab).or_fail();
    let content = Content::generate(&lab, &[("20MB", 20_000_000)]).or_fail();
    let _server = WebServer::start(&lab, topology.origin(), &content).or_fail();
    let curl = Curl::new(&topology.origin().url("/20MB")).digest();
    let fetched = fetch(topology.client(), &curl);
    let file = content.file("20MB").unwrap();
    assert_eq!(fetched.bytes, file.bytes);
    assert_eq!(fetched.sha256.as_ref(), Some(&file.sha256));
    let rate = fetched.bytes as f64 * 8.0 / 1e6 / fetched.total.as_secs_f64();
    println!("20 MB in {:?}: {rate:.0} Mbit/s", fetched.total);
    let report = finish(topology);
    let back = report.pair("origin", "client");
    // 20 MB in segments of 1448 bytes, each with 66 bytes of headers.
    let least = 20_000_000 / 1448;
    assert!(back.delivered > least && back.delivered_bytes > 20_000_000 + least * 66, "{back:?}");
}

#[test]
fn a_transfer_survives_loss_and_jitter() {
    let lab = Lab::new("rough").or_fail();
    let delay = LinkConfig { both: true, ..LinkConfig::delay(5.0) };
    let link = LinkConfig { loss: 0.01, jitter_ms: 2.0, reorder: true, ..delay };
    let topology = direct().link(Site::Client, Site::Origin, link).build(&lab).or_fail();
    let content = Content::generate(&lab, &[("1MB", 1_000_000)]).or_fail();
    let _server = WebServer::start(&lab, topology.origin(), &content).or_fail();
    let url = topology.origin().url("/1MB");
    let fetched = fetch(topology.client(), &Curl::new(&url).digest());
    assert_eq!(fetched.sha256.as_ref(), Some(&content.files()[0].sha256));
    let report = finish(topology);
    assert!(report.pair("origin", "client").lost > 0);
}

#[test]
fn a_rate_limits_a_transfer() {
    let lab = Lab::new("rate").or_fail();
    let delay = LinkConfig { both: true, ..LinkConfig::delay(5.0) };
    let link = LinkConfig { rate_mbit: Some(20.0), ..delay };
    let topology = direct().link(Site::Client, Site::Origin, link).build(&lab).or_fail();
    let content = Content::generate(&lab, &[("4MB", 4_000_000)]).or_fail();
    let _server = WebServer::start(&lab, topology.origin(), &content).or_fail();
    let curl = Curl::new(&topology.origin().url("/4MB")).discard();
    let fetched = fetch(topology.client(), &curl);
    let rate = fetched.bytes as f64 * 8.0 / 1e6 / fetched.total.as_secs_f64();
    println!("4 MB at 20 Mbit/s took {:?}: {rate:.1} Mbit/s", fetched.total);
    assert!(rate < 20.0, "{rate:.1} Mbit/s");
    finish(topology);
}

#[test]
fn a_small_mtu_is_discovered_in_both_families() {
    let lab = Lab::new("mtu").or_fail();
    // The delay's own link keeps its delay, and the pair without a link is narrow too.
    let builder = direct().ipv6(true).replicas(1).narrow(Site::Client, 1400);
    let topology = builder.delay(Site::Client, Site::Origin, 5.0).build(&lab).or_fail();
    let content = Content::generate(&lab, &[("1MB", 1_000_000)]).or_fail();
    let places = topology.servers().iter();
    let servers = places.map(|place| WebServer::start(&lab, place, &content).or_fail());
    let _servers: Vec<_> = servers.collect();
    for place in topology.servers() {
        for family in [Family::V4, Family::V6] {
            let curl = Curl::to(place.web(family), "1MB").digest();
            let fetched = fetch(topology.client(), &curl);
            assert_eq!(fetched.sha256.as_ref(), Some(&content.files()[0].sha256));
            assert_eq!(fetched.site, place.site.name(), "{family}");
            let delayed = place.site == Site::Origin;
            let floor = Duration::from_millis(if delayed { 10 } else { 0 });
            assert!(fetched.connect >= floor, "{}, {family}: {fetched:?}", place.site);
        }
        // What the router said about IPv6 is a route of its own from then on.
        let known = place.host.run(&["ip", "-6", "route", "get", "2001:db8:1::10"]).or_fail();
        assert!(known.stdout.contains("mtu 1400"), "{}", known.stdout);
    }
    let config = topology.wan_config();
    let [client, origin, replica] =
        ["client", "origin", "replica1"].map(|name| config.port_index(name).unwrap());
    for (site, delay) in [(origin, 5.0), (replica, 0.0)] {
        for link in [config.link_between(client, site), config.link_between(site, client)] {
            assert_eq!((link.delay_ms, link.mtu), (delay, Some(1400)));
        }
    }
    let report = finish(topology);
    for site in ["origin", "replica1"] {
        assert!(report.pair(site, "client").too_big >= 2, "one for each family");
        assert!(report.port(site).generated >= 2);
    }
}

#[test]
fn ipv6_works_too() {
    let lab = Lab::new("v6").or_fail();
    let builder = direct().ipv6(true).delay(Site::Client, Site::Origin, 10.0);
    let topology = builder.build(&lab).or_fail();
    let content = Content::generate(&lab, &[("4KB", 4_000)]).or_fail();
    let server = WebServer::start(&lab, topology.origin(), &content).or_fail();
    let (client, origin) = (topology.client(), topology.origin());
    // The very first connection waits for neighbour discovery, but not for a search for duplicates.
    for place in topology.places() {
        let words = ["ip", "-6", "-o", "address", "show", "tentative"];
        assert_eq!(place.host.run(&words).or_fail().stdout, "", "{}", place.site);
    }
    let first = fetch(client, &Curl::new(&origin.url_of(Family::V6, "/")));
    assert_eq!(first.remote, origin.address_of(Family::V6));
    for url in [origin.url_of(Family::V6, "/"), origin.url("/")] {
        let curl = Curl::new(&url);
        let best = (0..3).map(|_| fetch(client, &curl).connect).min().unwrap();
        println!("{url}: {best:?}");
        assert!(best >= Duration::from_millis(20), "faster than the WAN: {best:?}");
    }
    let service = origin.web(Family::V6);
    let bytes = std::fs::read(lab.directory().join("content/4KB")).unwrap();
    let burst = burst(client, service, ("4KB", &bytes), 50, 10).or_fail();
    assert_eq!((burst.successes(), &burst.failed[..]), (50, &[][..]));
    let open = OpenConnections::open(client, service, 3).or_fail();
    assert_eq!((open.count(), open.sites.get("origin")), (3, Some(&3)));
    let mut stream = connect_from(client, 40_000, service).or_fail();
    assert_eq!(request(&mut stream, true).or_fail(), "origin");
    assert!(server.access_log().contains("2001:db8:1::10:40000 "), "{}", server.access_log());
    finish(topology);
}

#[test]
fn a_half_open_connection_shows_in_either_family() {
    let lab = Lab::new("half").or_fail();
    let link = LinkConfig { loss: 1.0, ..LinkConfig::default() };
    let builder = direct().ipv6(true).link(Site::Origin, Site::Client, link);
    let topology = builder.build(&lab).or_fail();
    let _server = WebServer::start(&lab, topology.origin(), &Content::default()).or_fail();
    for family in [Family::V4, Family::V6] {
        let client = topology.client();
        let curl = Curl::to(topology.origin().web(family), "/").limit(Duration::from_millis(500));
        let own = client.address_of(family).to_string();
        // Neighbours are found at each end by itself, so that a SYN gets through at last.
        let shows = || {
            curl.run(&client.host).expect_err("an answer came through");
            World::half_open(topology.origin()).or_fail().contains(&own)
        };
        assert!(comes_true(shows), "{family}: no connection half open");
    }
    finish(topology);
}

#[test]
fn the_management_network_joins_servers_and_their_appliances() {
    let lab = Lab::new("manage").or_fail();
    let binary = env!("CARGO_BIN_EXE_firstack-wan");
    let builder = Topology::builder().replicas(2).management(true).wan_binary(binary);
    let topology = builder.build(&lab).or_fail();
    let content = Content::default();
    for place in topology.servers() {
        let _server = WebServer::start(&lab, place, &content).or_fail();
        let curl = Curl::new(&format!("http://{}/", place.site.management()));
        // A replica's web server, from its own appliance and from the switch's.
        for from in [place, topology.origin()] {
            let fetched = curl.run(from.appliance.as_ref().unwrap()).or_fail();
            assert_eq!((fetched.status, fetched.site), (200, place.site.name()));
        }
    }
    finish(topology);
}

#[test]
fn a_port_is_captured_in_both_directions() {
    let lab = Lab::new("pcap").or_fail();
    let topology = direct()
        .delay(Site::Client, Site::Origin, 10.0)
        .captures(lab.directory(), 128)
        .build(&lab)
        .or_fail();
    let _server = WebServer::start(&lab, topology.origin(), &Content::default()).or_fail();
    fetch(topology.client(), &Curl::new(&topology.origin().url("/")));
    let report = finish(topology);
    let frames = capture(&lab.directory().join("wan-client.pcap"));
    let port = report.port("client");
    assert_eq!(frames.len() as u64, port.received + port.sent);
    // The first TCP segments: SYN from the client, SYN+ACK to it a round trip later.
    let flags = |frame: &[u8]| (frame[12..14] == [8, 0]).then(|| frame[47] & 0x3f);
    let time_of = |wanted| frames.iter().find(|(_, f)| flags(f) == Some(wanted)).unwrap().0;
    let between = time_of(0x12) - time_of(0x02);
    println!("SYN to SYN+ACK at the WAN's client port: {between:?}");
    assert!(between >= Duration::from_millis(20), "faster than the WAN: {between:?}");
}

fn capture(path: &Path) -> Vec<(Duration, Vec<u8>)> {
    let file = std::fs::File::open(path).unwrap();
    let mut reader = pcap_file::pcap::PcapReader::new(file).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        frames.push((packet.timestamp, packet.data.into_owned()));
    }
    frames
}

#[test]
fn appliances_stand_between_host_and_wan_without_addresses() {
    let lab = Lab::new("places").or_fail();
    let binary = env!("CARGO_BIN_EXE_firstack-wan");
    let topology = Topology::builder().replicas(2).wan_binary(binary).build(&lab).or_fail();
    assert_eq!(topology.places().len(), 4);
    for place in topology.places() {
        let appliance = place.appliance.as_ref().unwrap();
        for interface in ["inside", "outside"] {
            let shown = appliance.run(&["ip", "-o", "address", "show", "dev", interface]);
            assert_eq!(shown.or_fail().stdout, "", "{interface} has an address");
            let shown = appliance.run(&["ip", "-o", "link", "show", "dev", interface]);
            let link = shown.or_fail().stdout;
            assert!(link.contains(",UP,LOWER_UP"), "{link}");
            let offloads = appliance.run(&["ethtool", "-k", interface]).or_fail().stdout;
            let off = |name: &str| offloads.contains(&format!("{name}: off"));
            assert!(off("tx-checksumming") && off("tcp-segmentation-offload"), "{offloads}");
            assert!(off("generic-segmentation-offload"), "{offloads}");
            assert!(off("generic-receive-offload"), "{offloads}");
        }
    }
    // Nobody carries frames between the two sides, so nothing passes.
    let curl = Curl::new(&topology.origin().url("/")).limit(Duration::from_secs(1));
    curl.run(&topology.client().host).expect_err("a packet passed an absent appliance");
    finish(topology);
}

#[test]
fn a_dropped_laboratory_leaves_nothing() {
    let lab = Lab::new("drop").or_fail();
    let namespace = lab.namespace("a").or_fail();
    let process = lab.spawn(&namespace, &["sh", "-c", "sleep 60 & sleep 60"]).or_fail();
    let (name, directory, id) =
        (namespace.name().to_string(), lab.directory().to_path_buf(), process.id());
    let listed = || run(&["ip", "netns", "list"]).or_fail().stdout;
    assert!(listed().contains(&name) && directory.is_dir());
    // A handle that outlives the laboratory must not keep anything.
    drop(lab);
    assert!(!listed().contains(&name) && !directory.exists());
    drop(process);
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn a_sweep_spares_the_living_and_removes_the_rest() {
    let lab = Lab::new("alive").or_fail();
    let living = lab.namespace("a").or_fail();
    // No process has the start time 1: init's is 0 or a little more, ours is far from it.
    let dead = format!("fsl-{}-1-dead0-a", std::process::id());
    run(&["ip", "netns", "add", &dead]).or_fail();
    Lab::sweep().or_fail();
    let listed = run(&["ip", "netns", "list"]).or_fail().stdout;
    assert!(listed.contains(living.name()) && !listed.contains(&dead));
}

#[test]
fn the_wan_ends_by_itself_and_names_its_mistakes() {
    let lab = Lab::new("ends").or_fail();
    let mut topology = direct().longest(Duration::from_millis(300)).build(&lab).or_fail();
    let status = topology.wan_process().wait(MAX_WAIT).or_fail();
    assert!(status.success());
    finish(topology);

    let file = lab.directory().join("wrong.toml");
    std::fs::write(&file, "[[port]]\nname = \"a\"\ninterface = \"nowhere\"\n").unwrap();
    let words = [env!("CARGO_BIN_EXE_firstack-wan"), "--config", file.to_str().unwrap()];
    let error = run(&words).expect_err("started on no interface").to_string();
    assert!(error.contains("nowhere"), "{error}");
}
