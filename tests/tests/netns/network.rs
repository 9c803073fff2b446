//! A network with firstack, its connections counted and its races captured, and what has to hold
//! in every test, however late a packet is:
//!
//! - every connection is complete, and every answer right;
//! - the site that answered is the one whose SYN/ACK reached the gateway first;
//! - the gateway counts the wins and losses that the capture shows, one win for each connection,
//!   and one reset for each loss;
//! - at rest no kernel holds a connection half open, and every packet is accounted for.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use firstack::control::stats::Snapshot;
use firstack_tests::demo::client::{Burst, burst, connect_from, request};
use firstack_tests::demo::world::World;
use firstack_tests::lab::wan::Report;
use firstack_tests::lab::{
    Curl, Family, Fetched, Place, Race, RaceCapture, Site, TopologyBuilder, served_by_others,
};
use firstack_tests::processes::{Ended, ProcessOptions};

use super::{MAX_WAIT, OrFail, comes_true, ended_well, generated, topology};

/// Time after which no kernel holds a connection half open whose resets it has missed: Linux gives
/// one up 63 s after its SYN.
const REST: Duration = Duration::from_secs(90);

/// What stands; the capture is dropped before the network.
pub struct Network {
    capture: RaceCapture,
    world: World,
    connections: Cell<u64>,
}

/// What is left of a network.
pub struct Finished {
    /// Gateway, switch and replicas, without those that were killed.
    pub ended: Vec<Ended>,
    /// The WAN's counters.
    pub wan: Report,
    /// All races, as the capture shows them.
    pub races: Vec<Race>,
}

impl Finished {
    pub fn gateway(&self) -> &Snapshot {
        &self.ended[0].snapshot
    }

    pub fn switch(&self) -> &Snapshot {
        &self.ended[1].snapshot
    }
}

impl Deref for Network {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Network {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Network {
    /// The usual topology.
    #[track_caller]
    pub fn new(name: &str, files: &[(&str, u64)], options: &ProcessOptions) -> Self {
        Self::build(name, topology(), files, options)
    }

    #[track_caller]
    pub fn build(
        name: &str,
        topology: TopologyBuilder,
        files: &[(&str, u64)],
        options: &ProcessOptions,
    ) -> Self {
        let world = World::build(name, topology, files, Some(options)).or_fail();
        let capture = RaceCapture::start(world.lab(), world.topology()).or_fail();
        Self { capture, world, connections: Cell::new(0) }
    }

    /// Connections that clients have opened so far.
    pub fn connections(&self) -> u64 {
        self.connections.get()
    }

    fn count(&self, connections: usize) {
        self.connections.set(self.connections.get() + connections as u64);
    }

    pub fn gateway(&self) -> Snapshot {
        self.processes().or_fail().gateway().stats().or_fail()
    }

    pub fn switch(&self) -> Snapshot {
        self.processes().or_fail().switch().stats().or_fail()
    }

    pub fn replica(&self, number: usize) -> Snapshot {
        self.processes().or_fail().replica(number).stats().or_fail()
    }

    /// Makes one connection by curl.
    #[track_caller]
    pub fn fetch(&self, curl: &Curl) -> Fetched {
        self.count(1);
        let fetched = curl.run(&self.client().host).or_fail();
        assert_eq!(fetched.status, 200);
        fetched
    }

    /// Fetches `/` from the service by a connection of its own; the site that answered.
    #[track_caller]
    pub fn answer(&self, family: Family) -> String {
        let fetched = self.fetch(&Curl::to(self.service(family), "/"));
        assert_eq!(String::from_utf8_lossy(&fetched.body), format!("{}\n", fetched.site));
        fetched.site
    }

    /// The same so many times; how often each site answered.
    #[track_caller]
    pub fn answers(&self, family: Family, count: usize) -> BTreeMap<String, usize> {
        let mut sites = BTreeMap::new();
        for _ in 0..count {
            *sites.entry(self.answer(family)).or_default() += 1;
        }
        sites
    }

    /// Connects until a site answers, which others may have to be slow for.
    #[track_caller]
    pub fn comes_to(&self, family: Family, site: &str) {
        let answered = comes_true(MAX_WAIT, || self.answer(family) == site);
        assert!(answered, "{site} never answers: {}", self.gateway());
    }

    /// Connects so many times; these sites, which cannot serve, answer none of them.
    #[track_caller]
    pub fn answers_without(&self, family: Family, count: usize, absent: &[&str]) {
        let answers = self.answers(family, count);
        assert!(!answers.keys().any(|site| absent.contains(&&**site)), "{absent:?}: {answers:?}");
    }

    /// Opens a connection from a port, or from any (0).
    #[track_caller]
    pub fn connect(&self, port: u16, to: SocketAddr) -> std::net::TcpStream {
        self.count(1);
        connect_from(self.client(), port, to).or_fail()
    }

    /// Opens connections until one is answered by a site that will do; it stays open.
    #[track_caller]
    pub fn connect_to(
        &self,
        family: Family,
        mut will_do: impl FnMut(&str) -> bool,
    ) -> (std::net::TcpStream, String) {
        let mut found = None;
        let came = comes_true(MAX_WAIT, || {
            let mut stream = self.connect(0, self.service(family));
            let site = request(&mut stream, false).or_fail();
            let fits = will_do(&site);
            found = fits.then_some((stream, site));
            fits
        });
        assert!(came, "no connection to a site that will do: {}", self.gateway());
        found.unwrap()
    }

    /// Makes many short connections for a file; every one brings it whole.
    #[track_caller]
    pub fn burst(&self, family: Family, file: &str, count: usize, at_a_time: usize) -> Burst {
        self.count(count);
        let (_, bytes) = self.file(file).or_fail();
        let file = (file, &bytes[..]);
        let burst = burst(self.client(), self.service(family), file, count, at_a_time).or_fail();
        assert_eq!((burst.successes(), &burst.failed[..]), (count, &[][..]));
        burst
    }

    /// Counts connections that were made otherwise.
    pub fn made(&self, connections: usize) {
        self.count(connections);
    }

    /// Waits until every packet is accounted for and no kernel holds a connection half open.
    #[track_caller]
    pub fn rest(&self) -> Vec<Snapshot> {
        let processes = self.processes().or_fail();
        let (mut snapshots, mut half_open) = (Vec::new(), String::new());
        let rests = comes_true(REST, || {
            snapshots = processes.settle(Duration::from_secs(2)).or_fail();
            let places = self.topology().servers().iter();
            half_open = places.map(|place| World::half_open(place).or_fail()).collect();
            snapshots.iter().all(Snapshot::is_conserved) && half_open.trim().is_empty()
        });
        assert!(rests, "half open: {half_open:?}; {snapshots:?}");
        snapshots
    }

    /// The races so far, once the capture has all the SYN/ACKs that the gateway has counted.
    #[track_caller]
    pub fn races(&self) -> Vec<Race> {
        self.races_of(&self.gateway())
    }

    #[track_caller]
    fn races_of(&self, gateway: &Snapshot) -> Vec<Race> {
        self.capture.complete(gateway).or_fail()
    }

    /// Ends everything and checks all that is promised above.
    #[track_caller]
    pub fn finish(self) -> Finished {
        let connections = self.connections();
        self.finish_with(connections)
    }

    /// The same when only so many of the connections were to a service, and so raced.
    #[track_caller]
    pub fn finish_with(mut self, raced: u64) -> Finished {
        let mut processes = self.take_processes().or_fail();
        processes.forget_killed();
        self.world.return_processes(processes);
        self.rest();
        let ended = self.take_processes().or_fail().stop().or_fail();
        ended.iter().for_each(ended_well);
        let gateway = &ended[0].snapshot;
        self.races_of(gateway);
        let Self { capture, world, connections } = self;
        let races = capture.stop().or_fail();
        assert_eq!(served_by_others(&races, &world.answered()), Vec::<String>::new());
        let connections = [raced, connections.get()];
        counters_add_up(&races, gateway, world.topology().servers(), connections);
        let wan = world.finish();
        wan.check_conservation().unwrap_or_else(|error| panic!("{error}"));
        Finished { ended, wan, races }
    }
}

/// The gateway has counted what the capture shows: a win for each connection, and losses with a
/// reset for each.
#[track_caller]
fn counters_add_up(
    races: &[Race],
    gateway: &Snapshot,
    servers: &[Place],
    [raced, connections]: [u64; 2],
) {
    // A SYN that went out untagged starts no race, though its SYN/ACK is captured like others.
    let is_untagged = |name: &str| name.starts_with("untagged") && name != "untagged_retransmit";
    let verdicts = gateway.sides[0].verdicts.iter();
    let untagged: u64 = verdicts.filter(|v| is_untagged(&v.name)).map(|v| v.packets).sum();
    let (mut won, mut lost, mut too_late) = (0, 0, 0);
    for place in servers {
        let name = place.site.name();
        let (own_won, own_lost) = results(gateway, place.site);
        let first = races.iter().filter(|race| race.winner() == name).count() as u64;
        let later: u64 = races.iter().map(|race| race.lost_by(&name)).sum();
        assert!(own_won <= first && own_lost <= later, "{name}: {first}, {later}: {gateway}");
        (won, lost, too_late) = (won + own_won, lost + own_lost, too_late + later);
    }
    assert_eq!(generated(gateway, "resets"), lost, "{gateway}");
    // Those of an earlier connection from the same port are dropped.
    assert!(too_late <= lost + gateway.verdict("syn_ack_wrong_number") + untagged, "{gateway}");
    if untagged == 0 {
        assert_eq!((won, races.len() as u64), (raced, connections), "{gateway}");
    } else {
        assert!(won <= raced && races.len() as u64 >= won, "{gateway}");
    }
}

/// Races that a site has won in both families, and SYN/ACKs of it that came too late.
pub fn results(gateway: &Snapshot, site: Site) -> (u64, u64) {
    let addresses = [Family::V4, Family::V6].map(|family| Some(site.address_of(family)));
    let own = gateway.races.iter().filter(|answers| addresses.contains(&answers.address));
    own.fold((0, 0), |(won, lost), answers| (won + answers.won, lost + answers.lost))
}
