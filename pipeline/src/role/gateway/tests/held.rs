//! SYN/ACKs that wait for their handicap.

use super::*;
use crate::memory::{Event, Memory, ReportsReader, ServiceSettings, reports};
use crate::policy::prefixes::PrefixMap;
use crate::policy::tunnel_path::TunnelPath;

const MS: fn(u64) -> Ticks = Ticks::from_millis;
const OTHER: &str = "198.51.101.10:80";

/// A gateway with its memory, whose races ask `REPLICA` directly.
struct Remembering<M> {
    harness: Harness<M>,
    memory: Memory,
    reports: ReportsReader,
}

impl<M: Mode> Remembering<M> {
    fn new(policy: Policy) -> Self {
        let policy = Policy { direct: 1, warm: vec![[198, 51, 100, 10].into()], ..policy };
        let service = Service {
            scope: Scope::Prefix("203.0.113.10/32".parse().unwrap()),
            ports: vec![80],
            retired: false,
            allowed_replicas: AllowList::Any,
            policy: policy.clone(),
        };
        let memory = Memory::new(vec![ServiceSettings::from(policy)], TunnelPath::default());
        let (sender, reports) = reports(64);
        let shares = Shares { plans: memory.reader(), reports: sender };
        let settings = Settings { max_connections: [16, 16], ..Settings::new(vec![service]) };
        let keys = Published::new(Keys::default());
        let gateway = Gateway::with_memory(settings, keys.reader(), shares);
        let now = Ticks::from_secs(1);
        let harness = Harness { gateway, pool: HeapPool::default(), now };
        Self { harness, memory, reports }
    }

    fn wait(&mut self, time: Ticks) {
        self.harness.now = self.harness.now + time;
    }

    fn pass(&mut self, side: Side, segment: &Segment) -> Verdict {
        let (mut burst, mut out) = (Burst::default(), Output::new(4));
        burst.fill(std::iter::once(HeapBuffer::new(&segment.frame())));
        let Harness { gateway, pool, now } = &mut self.harness;
        gateway.process(side, &mut burst, &mut Context { now: *now, pool, out: &mut out });
        burst.verdicts()[0]
    }

    /// Does periodic work; returns the frames that leave by each side.
    fn release(&mut self) -> [Vec<Vec<u8>>; 2] {
        let mut out = Output::new(4);
        let Harness { gateway, pool, now } = &mut self.harness;
        gateway.on_timer(&mut Context { now: *now, pool, out: &mut out });
        Side::ALL.map(|side| out.side(side).drain(..).map(|b| b.frame().to_vec()).collect())
    }

    /// Does a round of the control thread; returns the last answer that was reported.
    fn keep(&mut self) -> Option<Event> {
        let mut last = None;
        while let Some(report) = self.reports.take() {
            self.memory.note(&report);
            last = Some(report.event).filter(|e| matches!(e, Event::Answered { .. })).or(last);
        }
        self.memory.step(self.harness.now);
        last
    }
}

fn after(event: Option<Event>) -> Option<(bool, Ticks)> {
    match event {
        Some(Event::Answered { has_won, after, .. }) => Some((has_won, after?)),
        _ => None,
    }
}

/// A gateway whose client prefers the replica, which needs 10 ms, with the race of another
/// connection of the client open since 5 ms.
fn preferring() -> Remembering<A> {
    let affinity = Ticks::from_secs(60);
    let policy = Policy { affinity, affinity_slack: MS(20), ..Policy::default() };
    let mut gateway = Remembering::<A>::new(policy);
    gateway.pass(Side::Inside, &Segment::syn(CLIENT, SERVER, 100));
    gateway.wait(MS(10));
    let won = gateway.pass(Side::Outside, &Segment::syn_ack(REPLICA, CLIENT, 500, 101));
    assert_eq!(won, Verdict::ReplicaWon);
    gateway.keep();
    gateway.pass(Side::Inside, &Segment::syn(SECOND, SERVER, 200));
    gateway.wait(MS(5));
    gateway
}

const SECOND: &str = "198.18.1.10:40001";

#[test]
fn the_origins_syn_ack_is_still_the_origins_after_it_has_waited() {
    let mut gateway = preferring();
    let answer = Segment::syn_ack(SERVER, SECOND, 700, 201);
    assert_eq!(gateway.pass(Side::Outside, &answer), Verdict::SynAckHeld);
    gateway.wait(MS(20));
    assert_eq!(gateway.release(), [vec![answer.frame()], vec![]]);
    let data = Segment::ack(SECOND, SERVER, 201, 701);
    assert_eq!(gateway.pass(Side::Inside, &data), Verdict::WithOrigin);
    assert_eq!(after(gateway.keep()), Some((true, MS(5))), "the time of arrival counts");
}

#[test]
fn a_syn_ack_that_has_waited_in_vain_is_reset_at_its_own_address() {
    let mut gateway = preferring();
    let loser = Segment::syn_ack(OTHER, SECOND, 700, 201);
    assert_eq!(gateway.pass(Side::Outside, &loser), Verdict::SynAckHeld);
    gateway.wait(MS(5));
    let winner = Segment::syn_ack(REPLICA, SECOND, 800, 201);
    assert_eq!(gateway.pass(Side::Outside, &winner), Verdict::ReplicaWon);
    gateway.wait(MS(20));
    let [inside, outside] = gateway.release();
    assert!(inside.is_empty());
    let reset = Packet::new(HeapBuffer::new(&outside[0]));
    assert_eq!(reset.destination::<V4>(), endpoint::<V4>(OTHER));
    assert!(tcp::flags(reset.tcp()).rst());
    assert_eq!(after(gateway.keep()), Some((false, MS(5))));
}

#[test]
fn the_handicap_is_no_part_of_the_measured_time() {
    let handicaps = PrefixMap::new([("198.51.100.0/24".parse().unwrap(), MS(30))]);
    let mut gateway = Remembering::<A>::new(Policy { handicaps, ..Policy::default() });
    gateway.pass(Side::Inside, &Segment::syn(CLIENT, SERVER, 100));
    gateway.wait(MS(10));
    let answer = Segment::syn_ack(REPLICA, CLIENT, 500, 101);
    assert_eq!(gateway.pass(Side::Outside, &answer), Verdict::SynAckHeld);
    gateway.wait(MS(30));
    assert_eq!(gateway.release()[0].len(), 1);
    assert_eq!(after(gateway.keep()), Some((true, MS(10))));
}
