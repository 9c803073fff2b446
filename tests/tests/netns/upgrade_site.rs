//! A site is upgraded appliance by appliance while clients connect and download: replicas, switch,
//! gateway. No connection is lost.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use firstack_tests::demo::client::{burst_while, request};
use firstack_tests::lab::{Curl, Family};
use firstack_tests::processes::{Configuration, TunnelFormat};

use super::network::Network;
use super::{OrFail, Setup, alone, ended_well};

/// Bytes of the download, and how many of them a client takes per second: it lasts through all
/// upgrades, and its client only receives.
const DOWNLOAD: u64 = 24_000_000;
const RATE: &str = "600K";

/// The answer of every connection must be what it was before.
#[track_caller]
fn still_answer(open: &mut [(TcpStream, String)], after: &str) {
    for (stream, site) in open {
        assert_eq!(&request(stream, false).or_fail(), site, "after the upgrade of {after}");
    }
}

#[track_caller]
fn upgrade_all(name: &str, configuration: Configuration) {
    let _alone = alone();
    let family = Family::V4;
    let setup = Setup::direct(configuration, family, TunnelFormat::Ipip);
    let files = [("4KB", 4_000), ("large", DOWNLOAD)];
    let mut network = Network::build(name, setup.topology(), &files, &setup.options());
    // Idle meanwhile.
    let mut open: Vec<_> = ["replica1", "replica1", "origin"]
        .map(|wanted| network.connect_to(family, |site| site == wanted || wanted == "origin"))
        .into();
    let (wanted, small) = (network.file("large").or_fail().0.sha256.clone(), network.file("4KB"));
    let small = small.or_fail().1;
    let mut processes = network.take_processes().or_fail();
    let goes_on = AtomicBool::new(true);
    let (client, service) = (network.client(), network.service(family));
    std::thread::scope(|scope| {
        let download = scope.spawn(|| {
            let url = format!("http://{service}/large");
            let curl = Curl::new(&url).digest().option("--limit-rate").option(RATE);
            curl.run(&client.host)
        });
        let short = scope.spawn(|| {
            let file = ("4KB", &small[..]);
            burst_while(client, service, file, 2, || goes_on.load(Relaxed))
        });
        let mut longest = Duration::ZERO;
        // Ends the load even when something fails here.
        let _stop = Stop(&goes_on);
        // Replica 1, replica 2, switch, gateway.
        for number in [2, 3, 1, 0] {
            let appliance = processes.nth_mut(number);
            let gap = appliance.upgrade().or_fail();
            longest = longest.max(gap);
            let upgraded = appliance.name().to_owned();
            println!("{configuration}: {upgraded} upgraded, gap {gap:?}");
            still_answer(&mut open, &upgraded);
        }
        goes_on.store(false, Relaxed);
        let short = short.join().unwrap().or_fail();
        assert_eq!(short.failed, Vec::<String>::new());
        let download = download.join().unwrap().or_fail();
        assert_eq!(download.sha256.as_deref(), Some(wanted.as_str()));
        println!(
            "{configuration}: {} short connections and {} others, none lost, longest gap {longest:?}",
            short.successes(),
            open.len() + 1
        );
    });
    drop(open);
    // The counters of the processes before are gone, and so is what the capture could be compared
    // with.
    processes.stop().or_fail().iter().for_each(ended_well);
}

/// Clears a flag when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

#[test]
fn a_site_is_upgraded_under_configuration_a() {
    upgrade_all("site-a", Configuration::A);
}

#[test]
fn a_site_is_upgraded_under_configuration_b() {
    upgrade_all("site-b", Configuration::B);
}

#[test]
fn a_site_is_upgraded_under_configuration_c() {
    upgrade_all("site-c", Configuration::C);
}
