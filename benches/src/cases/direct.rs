//! Direct copies: races of a gateway that asks replicas itself, and what arrives at a replica and
//! at a switch.

use std::net::IpAddr;

use firstack_packets::{LINUX_OPTIONS, Segment, tag};
use pipeline::base::time::Ticks;
use pipeline::memory::{Event, Plan, Policy, ReportsReader};
use pipeline::packet::view::Side;
use pipeline::policy::prefixes::PrefixMap;
use pipeline::role::gateway::Gateway;
use pipeline::role::gateway::mode::{A, C, Mode};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::roles::{Arrival, Arrivals, NEW, OPEN, arrivals, in_turn, opened, whole_races, work};
use super::{Case, Named, Work};
use crate::direct::{plan, policy};
use crate::fixtures::{REPLICA, SERVER, V4, frames, ip, tagged};
use crate::roles::{direct_harness, replica_harness, switch_with};
use crate::{BURST, Harness};

/// The time between two bursts of races in which frames wait.
const PAUSE: Ticks = Ticks::from_millis(10);
/// The time for which they wait: until their race has been decided.
const WAIT: Ticks = Ticks::from_millis(30);

pub(super) fn cases() -> Vec<Case> {
    let races: [Named; 8] = [
        ("race_a_direct_0", || races::<A>(0)),
        ("race_a_direct_1", || races::<A>(1)),
        ("race_a_direct_2", || races::<A>(2)),
        ("race_a_direct_4", || races::<A>(4)),
        ("race_c_direct_2", || races::<C>(2)),
        ("race_a_direct_2_origin_after", origin_after),
        ("race_a_direct_2_affinity", affinity),
        ("race_a_direct_2_held", held),
    ];
    let packets: [Named; 4] = [
        ("replica_a_direct_copy", || direct_copies(Configuration::A)),
        ("replica_c_direct_copy", || direct_copies(Configuration::C)),
        ("replica_a_copy_duplicate", duplicates),
        ("switch_fan_out_1_of_8", explorers),
    ];
    let races =
        races.map(|(name, build)| Case { name, unit: "race", steps: 4, units: BURST, build });
    let packets = packets.map(|(name, build)| Case::burst(name, "packet", build));
    races.into_iter().chain(packets).collect()
}

/// Races whose reports are taken after each step, as the control thread does.
struct Reported<Q> {
    races: Arrivals<Gateway<Q>>,
    reports: ReportsReader,
    /// Direct copies in each race.
    direct: u32,
}

impl<Q: Mode> Work for Reported<Q> {
    fn prepare(&mut self) {
        self.races.prepare();
    }

    fn step(&mut self) {
        self.races.step();
    }

    fn check(&mut self) {
        // A SYN/ACK that is held is reported when its time has come.
        let least = if self.races.expected() == Verdict::SynAckHeld { 0 } else { BURST };
        self.races.check();
        let mut count = 0;
        while let Some(report) = self.reports.take() {
            count += 1;
            if let Event::Asked { sites, .. } = report.event {
                assert_eq!(sites.count_ones(), self.direct, "copies of a SYN");
            }
        }
        assert!((least..=2 * BURST).contains(&count), "{count} reports of a burst");
    }
}

fn reported<Q: Mode + 'static>(
    (harness, reports): (Harness<Gateway<Q>>, ReportsReader),
    direct: u8,
    arrivals: Vec<Arrival>,
    pause: Ticks,
) -> Box<dyn Work> {
    let races = Arrivals::new(harness, arrivals).every(pause);
    Box::new(Reported { races, reports, direct: direct.into() })
}

/// The same races as of a gateway that asks nobody directly, with the same three answers. With no
/// copies, nothing is remembered.
fn races<Q: Mode + 'static>(direct: u8) -> Box<dyn Work> {
    let policy = policy(direct.max(1));
    let plan = if direct == 0 { Plan::empty() } else { plan(&policy, direct) };
    let harness = direct_harness::<Q>(NEW, &policy, &plan);
    reported(harness, direct, whole_races::<Q>(Verdict::Tagged), Ticks(0))
}

/// Races whose SYNs to the origin wait, and are dropped when their time has come.
fn origin_after() -> Box<dyn Work> {
    let policy = Policy { origin_after: WAIT, ..policy(2) };
    // An exploration would not wait.
    let mut plan = plan(&policy, 2);
    plan.explore_every = u32::MAX;
    let (mut harness, mut reports) = direct_harness::<A>(NEW + 1, &policy, &plan);
    let first = Segment::syn("198.19.0.1:9999", SERVER, 7).frame();
    harness.run(Side::Inside, std::iter::once(first.as_slice()), Verdict::Tagged);
    assert!(reports.take().is_some());
    reported((harness, reports), 2, whole_races::<A>(Verdict::SynDeferred), PAUSE)
}

/// Races whose clients have a replica that they keep.
fn affinity() -> Box<dyn Work> {
    let policy = Policy { affinity: Ticks::from_secs(60), ..policy(2) };
    let harness = direct_harness::<A>(NEW, &policy, &plan(&policy, 2));
    reported(harness, 2, whole_races::<A>(Verdict::Tagged), Ticks(0))
}

/// Races whose first replica has a handicap: its SYN/ACK waits, another wins meanwhile, and it is
/// reset when its time has come.
fn held() -> Box<dyn Work> {
    let handicap = (ip(REPLICA).parse::<IpAddr>().expect("an address").into(), WAIT);
    let policy = Policy { handicaps: PrefixMap::new([handicap]), ..policy(2) };
    let harness = direct_harness::<A>(NEW, &policy, &plan(&policy, 2));
    let verdicts = [Verdict::Tagged, Verdict::SynAckHeld, Verdict::ReplicaWon, Verdict::LoserReset];
    reported(harness, 2, in_turn::<A>(verdicts), PAUSE)
}

/// Returns direct copies, as the gateway sends them.
fn direct_frames(code: Configuration, count: usize) -> Vec<Vec<u8>> {
    frames(V4, count, |client| tagged(client, SERVER, code).tunnelled(&ip(client), &ip(REPLICA)))
}

fn direct_copies(code: Configuration) -> Box<dyn Work> {
    let frames = direct_frames(code, NEW);
    work(replica_harness(), arrivals(Side::Outside, &frames, Verdict::CopyAccepted))
}

/// The switch's copies of SYNs that the web server has from the gateway already.
fn duplicates() -> Box<dyn Work> {
    let direct = direct_frames(Configuration::A, OPEN);
    let harness = opened(replica_harness(), &direct, Verdict::CopyAccepted);
    let copies = super::roles::copy_frames(Configuration::A, V4, OPEN);
    work(harness, arrivals(Side::Outside, &copies, Verdict::CopyDuplicate))
}

/// SYNs at a switch with eight replicas, of which one gets a copy.
fn explorers() -> Box<dyn Work> {
    let frames = frames(V4, OPEN, |client| {
        let tag = tag::unsigned(tag::wanting(tag::flags(Configuration::A as u8), 1));
        let options = [&LINUX_OPTIONS[..], &tag].concat();
        Segment::syn(client, SERVER, 7).options(&options).frame()
    });
    work(switch_with(8), arrivals(Side::Outside, &frames, Verdict::FannedOut))
}
