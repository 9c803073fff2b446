//! Connections stay at their servers when the set of servers changes.

use proptest::prelude::*;

use super::*;
use crate::wire::tcp::Flags;

pub(super) fn harness(plan: Plan) -> Harness {
    Harness::new(settings(service(plan, plan, 3)))
}

pub(super) fn syn_of(plan: Plan, port: u16, isn: u32) -> Vec<u8> {
    Segment::syn(&client(plan, port), plan.service, isn).inbound().frame()
}

pub(super) fn from_client(plan: Plan, port: u16, flags: u8) -> Vec<u8> {
    Segment::new(&client(plan, port), plan.service, flags, 1001, 5001).inbound().frame()
}

pub(super) fn from_server(plan: Plan, port: u16, flags: u8) -> Vec<u8> {
    let ack = if flags == SYN_ACK { 8 } else { 1001 };
    Segment::new(plan.service, &client(plan, port), flags, 5000, ack).frame()
}

pub(super) const ACK: u8 = Flags::ACK;
pub(super) const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
pub(super) const FIN: u8 = Flags::FIN | Flags::ACK;
pub(super) const RST: u8 = Flags::RST;

/// Returns a client port for which this server is selected.
pub(super) fn port_of(harness: &mut Harness, plan: Plan, server: usize) -> u16 {
    let selection = harness.selection.current();
    let is_selected = |port: &u16| match crate::testing::socket(&client(plan, *port)).ip() {
        IpAddr::V4(a) => selection.server::<V4>(0, Endpoint::new(a, *port)) == Some(server),
        IpAddr::V6(a) => selection.server::<V6>(0, Endpoint::new(a, *port)) == Some(server),
    };
    (1000..).find(is_selected).unwrap()
}

#[test]
fn live_connections_stay_at_a_server_that_gets_no_new_ones() {
    for plan in PLANS {
        let mut harness = harness(plan);
        let mut places = Vec::new();
        for port in 1000..1060 {
            let server = harness.server_of(&syn_of(plan, port, 7)).unwrap();
            assert_eq!(
                harness.pass(Side::Inside, &from_server(plan, port, SYN_ACK)),
                Verdict::FromServer
            );
            assert_eq!(harness.server_of(&from_client(plan, port, ACK)), Some(server));
            places.push((port, server));
        }
        assert_eq!(harness.table(plan), (60, [0, 60, 0]));
        assert!((0..3).all(|server| places.iter().any(|(_, at)| *at == server)));
        harness.servers(&[true, false, true]);
        for &(port, server) in &places {
            assert_eq!(harness.server_of(&from_client(plan, port, ACK)), Some(server), "{port}");
        }
        assert!((2000..2060).all(|port| harness.server_of(&syn_of(plan, port, 7)) != Some(1)));
        harness.servers(&[false, false, false]);
        assert_eq!(harness.pass(Side::Outside, &syn_of(plan, 3000, 7)), Verdict::NoServer);
        for &(port, server) in &places {
            assert_eq!(harness.server_of(&from_client(plan, port, ACK)), Some(server), "{port}");
        }
        harness.on_timer();
        let counters = &harness.switch.common.counters.common;
        let used =
            if host(plan.service).contains(':') { &counters.table_v6 } else { &counters.table };
        assert_eq!((used.live[0].get(), used.live[2].get(), used.capacity.get()), (60, 60, 256));
    }
}

#[test]
fn a_service_with_one_server_stores_no_affinity_and_its_connections_continue() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 1)));
        assert_eq!(harness.server_of(&syn_of(plan, 1000, 7)), Some(0));
        harness.servers(&[false]);
        assert_eq!(harness.pass(Side::Outside, &syn_of(plan, 1001, 7)), Verdict::NoServer);
        assert_eq!(harness.server_of(&from_client(plan, 1000, ACK)), Some(0));
        assert_eq!(harness.table(plan), (0, [0, 0, 0]));
    }
}

#[test]
fn a_server_that_was_never_selected_gets_no_packets() {
    let settings = settings(service(V4_PLAN, V4_PLAN, 1));
    let mut harness = Harness::new(settings);
    harness.switch.common.states[0].was_selected = false;
    harness.servers(&[false]);
    assert_eq!(harness.pass(Side::Outside, &from_client(V4_PLAN, 1000, ACK)), Verdict::NoServer);
    harness.servers(&[true]);
    assert_eq!(harness.server_of(&from_client(V4_PLAN, 1000, ACK)), Some(0));
    harness.servers(&[false]);
    assert_eq!(harness.server_of(&from_client(V4_PLAN, 1000, ACK)), Some(0));
}

#[test]
fn packets_without_an_entry_go_to_the_selected_server() {
    let mut harness = harness(V4_PLAN);
    let port = port_of(&mut harness, V4_PLAN, 1);
    assert_eq!(harness.server_of(&from_client(V4_PLAN, port, ACK)), Some(1));
    assert_eq!(harness.table(V4_PLAN), (0, [0, 0, 0]));
    harness.servers(&[true, false, true]);
    assert_ne!(harness.server_of(&from_client(V4_PLAN, port, ACK)), Some(1));
}

#[test]
fn an_unanswered_syn_goes_to_another_server_when_its_server_is_down() {
    for plan in PLANS {
        let mut harness = harness(plan);
        let port = port_of(&mut harness, plan, 1);
        assert_eq!(harness.server_of(&syn_of(plan, port, 7)), Some(1));
        assert_eq!(harness.server_of(&syn_of(plan, port, 7)), Some(1));
        harness.servers(&[true, false, true]);
        let other = harness.server_of(&syn_of(plan, port, 7)).unwrap();
        assert_ne!(other, 1);
        assert_eq!(harness.server_of(&from_client(plan, port, ACK)), Some(other));
        // A server that has answered is slow or drained, but not down.
        harness.servers(&[true, true, true]);
        let port =
            (port + 1..).find(|p| harness.server_of(&syn_of(plan, *p, 7)) == Some(1)).unwrap();
        harness.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
        harness.servers(&[true, false, true]);
        assert_eq!(harness.server_of(&syn_of(plan, port, 7)), Some(1));
        let counters = &harness.switch.common.counters;
        assert!(counters.syns[1].get() >= 3);
    }
}

#[test]
fn a_spoofed_syn_does_not_move_a_live_connection() {
    let plan = V4_PLAN;
    let mut harness = harness(plan);
    let port = port_of(&mut harness, plan, 1);
    harness.server_of(&syn_of(plan, port, 7));
    harness.server_of(&from_client(plan, port, ACK));
    harness.servers(&[true, false, true]);
    assert_eq!(harness.server_of(&syn_of(plan, port, 99)), Some(1));
    assert_eq!(harness.server_of(&from_client(plan, port, ACK)), Some(1));
    // After idleness a SYN may begin a new connection. SYNs alone do not restart the time-out.
    for seconds in [30, 30, 30] {
        harness.now = harness.now + Ticks::from_secs(seconds);
        harness.server_of(&syn_of(plan, port, 99));
    }
    assert_ne!(harness.server_of(&from_client(plan, port, ACK)), Some(1));
}

#[test]
fn the_end_of_a_connection_frees_its_endpoints() {
    let plan = V6_PLAN;
    let endings: [&[(Side, u8)]; 5] = [
        &[(Side::Inside, FIN), (Side::Outside, FIN)],
        &[(Side::Outside, FIN), (Side::Inside, FIN)],
        &[(Side::Inside, RST)],
        &[(Side::Outside, RST)],
        // The server's packets do not pass the switch.
        &[(Side::Outside, FIN)],
    ];
    for (number, ending) in endings.into_iter().enumerate() {
        let mut harness = harness(plan);
        let port = port_of(&mut harness, plan, 1);
        harness.server_of(&syn_of(plan, port, 7));
        if number != 4 {
            harness.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
        }
        harness.server_of(&from_client(plan, port, ACK));
        harness.servers(&[true, false, true]);
        for (step, &(side, flags)) in ending.iter().enumerate() {
            assert_eq!(harness.table(plan).1, [0, 1, 0], "ending {number} before step {step}");
            let frame = match side {
                Side::Inside => from_server(plan, port, flags),
                Side::Outside => from_client(plan, port, flags),
            };
            harness.pass(side, &frame);
        }
        assert_eq!(harness.table(plan).1, [0, 0, 1], "ending {number}");
        assert_eq!(harness.server_of(&from_client(plan, port, ACK)), Some(1), "the last packets");
        assert_ne!(harness.server_of(&syn_of(plan, port, 8)), Some(1), "a new connection");
        assert_eq!(harness.table(plan).1, [1, 0, 0]);
    }
}

#[test]
fn entries_expire_by_state_and_opening_and_closing_ones_are_evicted() {
    let plan = V4_PLAN;
    let mut settings = settings(service(plan, plan, 3));
    settings.max_connections = [4, 1];
    let mut harness = Harness::new(settings);
    for port in 1..=3 {
        harness.server_of(&syn_of(plan, port, 7));
    }
    harness.pass(Side::Inside, &from_server(plan, 1, SYN_ACK));
    harness.server_of(&from_client(plan, 1, ACK));
    harness.server_of(&syn_of(plan, 4, 7));
    harness.server_of(&syn_of(plan, 5, 7));
    let counters = &harness.switch.common.counters.common.table;
    assert_eq!((counters.inserted.get(), counters.evicted.get()), (5, 1));
    assert_eq!(harness.table(plan).1, [3, 1, 0]);
    for port in 3..=5 {
        harness.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
        harness.server_of(&from_client(plan, port, ACK));
    }
    // The table is full of live connections: a new one goes to its server without an entry.
    let selected = port_of(&mut harness, plan, 2);
    assert_eq!(harness.server_of(&syn_of(plan, selected, 7)), Some(2));
    assert_eq!(harness.table(plan), (5, [0, 4, 0]));
    // A closing connection is evicted.
    harness.server_of(&from_client(plan, 3, RST));
    assert_eq!(harness.table(plan).1, [0, 3, 1]);
    harness.server_of(&syn_of(plan, selected, 7));
    harness.pass(Side::Inside, &from_server(plan, selected, SYN_ACK));
    harness.server_of(&from_client(plan, selected, ACK));
    assert_eq!(harness.table(plan), (6, [0, 4, 0]));
    harness.now = harness.now + Ticks::from_secs(3600);
    for _ in 0..4 {
        harness.on_timer();
    }
    assert_eq!(harness.table(plan).1, [0, 0, 0]);
    assert_eq!(harness.switch.common.counters.common.table.expired.get(), 4);
}

#[test]
fn one_client_endpoint_has_a_connection_to_each_port() {
    let plan = V4_PLAN;
    let mut both = service(plan, plan, 3);
    both.ports = vec![80, 443];
    let mut harness = Harness::new(settings(both));
    harness.server_of(&syn_of(plan, 1000, 7));
    let tls = Segment::syn(&client(plan, 1000), "203.0.113.10:443", 9).inbound().frame();
    harness.server_of(&tls);
    assert_eq!(harness.table(plan), (2, [2, 0, 0]));
}

#[derive(Clone, Debug)]
enum Event {
    Syn(u16),
    Data(u16),
    SynAck(u16),
    Servers([bool; 3]),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1u16..20).prop_map(Event::Syn),
        6 => (1u16..20).prop_map(Event::Data),
        2 => (1u16..20).prop_map(Event::SynAck),
        2 => any::<[bool; 3]>().prop_map(Event::Servers),
        1 => (0u64..300).prop_map(Event::Wait),
    ]
}

/// A connection as the switch should know it.
#[derive(Clone, Copy, Debug)]
struct Known {
    server: usize,
    answered: bool,
    established: bool,
    /// Whether it stays at its server whatever happens.
    open: bool,
}

impl Known {
    fn at(server: usize) -> Self {
        Self { server, answered: false, established: false, open: false }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// An established connection stays at its server, in every order of events.
    #[test]
    fn live_connections_stay(
        events in proptest::collection::vec(event(), 1..200),
        v6 in any::<bool>(),
    ) {
        let plan = if v6 { V6_PLAN } else { V4_PLAN };
        let mut harness = harness(plan);
        let mut known: [Option<Known>; 20] = [None; 20];
        let mut heard = [false; 3];
        for event in events {
            match event {
                Event::Syn(port) => {
                    let server = harness.server_of(&syn_of(plan, port, 7));
                    let known = &mut known[usize::from(port)];
                    match (*known, server) {
                        (Some(Known { server: place, open: true, .. }), _) => {
                            prop_assert_eq!(server, Some(place));
                        }
                        (Some(Known { server: place, .. }), Some(server)) if place == server => {}
                        (_, Some(server)) => *known = Some(Known::at(server)),
                        (_, None) => {}
                    }
                }
                Event::Data(port) => {
                    let server = harness.server_of(&from_client(plan, port, ACK));
                    if let Some(known) = &mut known[usize::from(port)] {
                        prop_assert_eq!(server, Some(known.server));
                        known.established |= known.answered;
                        known.open |= known.established || !heard[known.server];
                    }
                }
                Event::SynAck(port) => {
                    harness.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
                    if let Some(known) = &mut known[usize::from(port)] {
                        heard[known.server] = true;
                        // Whoever went on before it was blind.
                        (known.answered, known.open) = (true, known.established);
                    }
                }
                Event::Servers(servers) => harness.servers(&servers),
                Event::Wait(millis) => {
                    // All waits together are shorter than the 30 s of an opening entry.
                    harness.now = harness.now + Ticks::from_millis(millis.min(29_000 / 200));
                    harness.on_timer();
                }
            }
        }
    }
}
