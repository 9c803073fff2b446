//! Repeated SYN/ACKs: honest connections whose ACK was lost are repaired by them, and a flood of
//! spoofed SYNs draws hardly more than one for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::verdict::Fate;

/// The times after its first SYN/ACK at which a web server repeats it, in milliseconds, and those
/// at which a client repeats its SYN.
const REPEATS: [u64; 5] = [1_000, 3_000, 7_000, 15_000, 31_000];
/// Loss of the path between gateway and replica, in percent and direction.
const LOSS: u64 = 15;

/// A reproducible sequence of numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }

    fn loses(&mut self) -> bool {
        self.next() % 100 < LOSS
    }
}

/// What happens at the replica, for the connection with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Copy,
    SynAck,
    Ack,
    Banner,
}

/// Both ends of a connection.
#[derive(Clone, Copy, Default)]
struct Ends {
    server_has_syn: bool,
    client_has_syn_ack: bool,
    server_has_ack: bool,
    client_has_banner: bool,
}

fn spoofed(number: u32) -> String {
    let [_, a, b, c] = number.to_be_bytes();
    format!("{}.{a}.{b}.7:{}", 11 + a % 80, 1024 + u16::from(c))
}

impl Harness {
    fn of_any(&mut self, client: &str) -> Verdict {
        let syn = Segment::syn(client, SERVER, 100).options(&TAG_B);
        self.pass(Side::Outside, &syn.tunnelled("203.0.113.10", "198.51.100.10")).0
    }

    fn answers(&mut self, client: &str) -> bool {
        self.pass(Side::Inside, &Segment::syn_ack(WEB, client, 500, 101).frame()).1.is_some()
    }
}

/// Returns how many of 100 connections whose server speaks first complete over a path with losses.
fn completed(rate: u64, seed: u64) -> usize {
    let mut harness = Harness::with(|settings| {
        settings.max_connections = [256, 1];
        settings.busy_connections = 256;
        settings.busy_syn_rate = 1000;
        settings.syn_ack_repair_rate = rate;
    });
    let mut random = Random(seed);
    let mut ends = [Ends::default(); 100];
    let mut events = BinaryHeap::new();
    for number in 0..ends.len() {
        for time in std::iter::once(0).chain(REPEATS) {
            events.push(Reverse((1_000 + 50 * number as u64 + time, number, Event::Copy)));
        }
    }
    while let Some(Reverse((millis, number, event))) = events.pop() {
        harness.now = Ticks::from_millis(millis);
        let client = format!("198.18.1.10:{}", 40_000 + number);
        let end = &mut ends[number];
        match event {
            Event::Copy if !end.client_has_syn_ack && !random.loses() => {
                let is_given = harness.of_any(&client).fate() == Fate::Forwarded;
                let first = is_given && !end.server_has_syn;
                end.server_has_syn |= is_given;
                let again = REPEATS.iter().filter(|_| first).copied();
                for time in std::iter::once(0).filter(|_| is_given).chain(again) {
                    events.push(Reverse((millis + time, number, Event::SynAck)));
                }
            }
            Event::SynAck if !end.server_has_ack && harness.answers(&client) && !random.loses() => {
                end.client_has_syn_ack = true;
                events.push(Reverse((millis + 100, number, Event::Ack)));
            }
            Event::Ack if !random.loses() => {
                let ack = Segment::ack(&client, WEB, 101, 501).inbound().frame();
                end.server_has_ack |= harness.pass(Side::Outside, &ack).1.is_some();
                events.push(Reverse((millis, number, Event::Banner)));
            }
            Event::Banner if !end.client_has_banner => {
                let banner = Segment::ack(WEB, &client, 501, 101).payload(b"220 ready").frame();
                let arrives = harness.pass(Side::Inside, &banner).1.is_some() && !random.loses();
                end.client_has_banner = arrives;
                events.push(Reverse((millis + 300, number, Event::Banner)));
            }
            _ => {}
        }
    }
    ends.iter().filter(|end| end.client_has_banner).count()
}

#[test]
fn connections_whose_server_speaks_first_complete_in_spite_of_losses() {
    for seed in 1..=5 {
        assert_eq!(completed(20, seed), 100, "seed {seed}");
        // Without repeated SYN/ACKs, those whose ACK was lost wait for ever.
        assert!(completed(0, seed) < 95, "seed {seed}");
    }
}

/// Returns how many SYN/ACKs leave for `count` spoofed SYNs of `client`, sent within `secs`.
fn drawn(count: u32, secs: u64, client: impl Fn(u32) -> String) -> u64 {
    let mut harness = Harness::with(|settings| {
        settings.max_connections = [1 << 17, 1];
        settings.busy_syn_rate = 1 << 20;
        settings.syn_ack_repair_rate = 20;
    });
    let mut events = BinaryHeap::new();
    for number in 0..count {
        let start = 1_000 + u64::from(number) * secs * 1000 / u64::from(count);
        for (nth, time) in std::iter::once(0).chain(REPEATS).enumerate() {
            events.push(Reverse((start + time, number, nth)));
        }
    }
    let mut left = 0;
    while let Some(Reverse((millis, number, nth))) = events.pop() {
        harness.now = Ticks::from_millis(millis);
        let client = client(number);
        if nth == 0 {
            assert_eq!(harness.of_any(&client), Verdict::CopyAccepted);
        }
        left += u64::from(harness.answers(&client));
    }
    left
}

#[test]
fn a_flood_of_spoofed_syns_draws_hardly_more_than_one_syn_ack_each() {
    // From everywhere: what all prefixes have saved up, and gain in 40 s.
    let count = 50_000;
    let left = drawn(count, 5, spoofed);
    assert!((u64::from(count)..=u64::from(count) + 80 + 20 * 40).contains(&left), "{left}");
    // From one prefix: what that has saved up, and gains.
    let left = drawn(10_000, 5, |n| format!("198.18.1.{}:{}", n % 250 + 1, 1024 + n / 250));
    assert!((10_000..=10_000 + 8 + 20).contains(&left), "{left}");
}
