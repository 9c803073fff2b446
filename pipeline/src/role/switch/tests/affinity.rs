//! Connections stay at their servers, whatever becomes of the set.

use proptest::prelude::*;

use super::*;
use crate::wire::tcp::Flags;

fn bench(plan: Plan) -> Bench {
    Bench::new(settings(service(plan, plan, 3)))
}

fn start(plan: Plan, port: u16, isn: u32) -> Vec<u8> {
    Segment::syn(&client(plan, port), plan.service, isn).inbound().frame()
}

fn from_client(plan: Plan, port: u16, flags: u8) -> Vec<u8> {
    Segment::new(&client(plan, port), plan.service, flags, 1001, 5001).inbound().frame()
}

fn from_server(plan: Plan, port: u16, flags: u8) -> Vec<u8> {
    Segment::new(plan.service, &client(plan, port), flags, 5000, 1001).frame()
}

const ACK: u8 = Flags::ACK;
const SYN_ACK: u8 = Flags::SYN | Flags::ACK;
const FIN: u8 = Flags::FIN | Flags::ACK;
const RST: u8 = Flags::RST;

/// A port whose client the selection sends to this server.
fn port_of(bench: &mut Bench, plan: Plan, server: usize) -> u16 {
    let selection = bench.selection.current();
    let chosen = |port: &u16| match crate::testing::socket(&client(plan, *port)).ip() {
        IpAddr::V4(a) => selection.server::<V4>(0, Endpoint::new(a, *port)) == Some(server),
        IpAddr::V6(a) => selection.server::<V6>(0, Endpoint::new(a, *port)) == Some(server),
    };
    (1000..).find(chosen).unwrap()
}

#[test]
fn live_connections_stay_when_their_server_goes_and_new_ones_do_not_go_there() {
    for plan in PLANS {
        let mut bench = bench(plan);
        let mut places = Vec::new();
        for port in 1000..1060 {
            let server = bench.server_of(&start(plan, port, 7)).unwrap();
            assert_eq!(
                bench.pass(Side::Inside, &from_server(plan, port, SYN_ACK)),
                Verdict::FromServer
            );
            assert_eq!(bench.server_of(&from_client(plan, port, ACK)), Some(server));
            places.push((port, server));
        }
        assert_eq!(bench.table(plan), (60, [0, 60, 0]));
        assert!((0..3).all(|server| places.iter().any(|(_, at)| *at == server)));
        bench.servers(&[true, false, true]);
        for &(port, server) in &places {
            assert_eq!(bench.server_of(&from_client(plan, port, ACK)), Some(server), "{port}");
        }
        assert!((2000..2060).all(|port| bench.server_of(&start(plan, port, 7)) != Some(1)));
        bench.servers(&[false, false, false]);
        assert_eq!(bench.pass(Side::Outside, &start(plan, 3000, 7)), Verdict::NoServer);
        for &(port, server) in &places {
            assert_eq!(bench.server_of(&from_client(plan, port, ACK)), Some(server), "{port}");
        }
        bench.on_timer();
        let counters = &bench.switch.common.counters.common;
        let used =
            if host(plan.service).contains(':') { &counters.table_v6 } else { &counters.table };
        assert_eq!((used.live[0].get(), used.live[1].get(), used.capacity.get()), (60, 60, 256));
    }
}

#[test]
fn with_one_server_there_is_nothing_to_keep_and_its_connections_go_on() {
    for plan in PLANS {
        let mut bench = Bench::new(settings(service(plan, plan, 1)));
        assert_eq!(bench.server_of(&start(plan, 1000, 7)), Some(0));
        bench.servers(&[false]);
        assert_eq!(bench.pass(Side::Outside, &start(plan, 1001, 7)), Verdict::NoServer);
        assert_eq!(bench.server_of(&from_client(plan, 1000, ACK)), Some(0));
        assert_eq!(bench.table(plan), (0, [0, 0, 0]));
    }
}

#[test]
fn a_server_that_never_got_a_connection_gets_no_packets() {
    let settings = settings(service(V4_PLAN, V4_PLAN, 1));
    let mut bench = Bench::new(settings);
    bench.switch.common.states[0].was_selected = false;
    bench.servers(&[false]);
    assert_eq!(bench.pass(Side::Outside, &from_client(V4_PLAN, 1000, ACK)), Verdict::NoServer);
    bench.servers(&[true]);
    assert_eq!(bench.server_of(&from_client(V4_PLAN, 1000, ACK)), Some(0));
    bench.servers(&[false]);
    assert_eq!(bench.server_of(&from_client(V4_PLAN, 1000, ACK)), Some(0));
}

#[test]
fn what_has_no_entry_follows_the_selection_without_one() {
    let mut bench = bench(V4_PLAN);
    let port = port_of(&mut bench, V4_PLAN, 1);
    assert_eq!(bench.server_of(&from_client(V4_PLAN, port, ACK)), Some(1));
    assert_eq!(bench.table(V4_PLAN), (0, [0, 0, 0]));
    bench.servers(&[true, false, true]);
    assert_ne!(bench.server_of(&from_client(V4_PLAN, port, ACK)), Some(1));
}

#[test]
fn an_unanswered_start_packet_is_sent_to_another_server_when_its_own_is_down() {
    for plan in PLANS {
        let mut bench = bench(plan);
        let port = port_of(&mut bench, plan, 1);
        assert_eq!(bench.server_of(&start(plan, port, 7)), Some(1));
        assert_eq!(bench.server_of(&start(plan, port, 7)), Some(1));
        bench.servers(&[true, false, true]);
        let other = bench.server_of(&start(plan, port, 7)).unwrap();
        assert_ne!(other, 1);
        assert_eq!(bench.server_of(&from_client(plan, port, ACK)), Some(other));
        // One that has answered is only slow, or drained.
        bench.servers(&[true, true, true]);
        let port = (port + 1..).find(|p| bench.server_of(&start(plan, *p, 7)) == Some(1)).unwrap();
        bench.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
        bench.servers(&[true, false, true]);
        assert_eq!(bench.server_of(&start(plan, port, 7)), Some(1));
        let counters = &bench.switch.common.counters;
        assert!(counters.syns[1].get() >= 3);
    }
}

#[test]
fn a_forged_start_packet_moves_no_live_connection() {
    let plan = V4_PLAN;
    let mut bench = bench(plan);
    let port = port_of(&mut bench, plan, 1);
    bench.server_of(&start(plan, port, 7));
    bench.server_of(&from_client(plan, port, ACK));
    bench.servers(&[true, false, true]);
    assert_eq!(bench.server_of(&start(plan, port, 99)), Some(1));
    assert_eq!(bench.server_of(&from_client(plan, port, ACK)), Some(1));
    // After a rest it may be a new connection; the start packets themselves keep nothing alive.
    for seconds in [30, 30, 30] {
        bench.now = bench.now + Ticks::from_secs(seconds);
        bench.server_of(&start(plan, port, 99));
    }
    assert_ne!(bench.server_of(&from_client(plan, port, ACK)), Some(1));
}

#[test]
fn the_end_of_a_connection_frees_its_endpoints() {
    let plan = V6_PLAN;
    let endings: [&[(Side, u8)]; 5] = [
        &[(Side::Inside, FIN), (Side::Outside, FIN)],
        &[(Side::Outside, FIN), (Side::Inside, FIN)],
        &[(Side::Inside, RST)],
        &[(Side::Outside, RST)],
        // The server's packets go another way.
        &[(Side::Outside, FIN)],
    ];
    for (number, ending) in endings.into_iter().enumerate() {
        let mut bench = bench(plan);
        let port = port_of(&mut bench, plan, 1);
        bench.server_of(&start(plan, port, 7));
        if number != 4 {
            bench.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
        }
        bench.server_of(&from_client(plan, port, ACK));
        bench.servers(&[true, false, true]);
        for (step, &(side, flags)) in ending.iter().enumerate() {
            assert_eq!(bench.table(plan).1, [0, 1, 0], "ending {number} before step {step}");
            let frame = match side {
                Side::Inside => from_server(plan, port, flags),
                Side::Outside => from_client(plan, port, flags),
            };
            bench.pass(side, &frame);
        }
        assert_eq!(bench.table(plan).1, [0, 0, 1], "ending {number}");
        assert_eq!(bench.server_of(&from_client(plan, port, ACK)), Some(1), "the last packets");
        assert_ne!(bench.server_of(&start(plan, port, 8)), Some(1), "a new connection");
        assert_eq!(bench.table(plan).1, [1, 0, 0]);
    }
}

#[test]
fn entries_expire_by_state_and_opening_and_closing_ones_make_room() {
    let plan = V4_PLAN;
    let mut settings = settings(service(plan, plan, 3));
    settings.max_connections = [4, 1];
    let mut bench = Bench::new(settings);
    for port in 1..=3 {
        bench.server_of(&start(plan, port, 7));
    }
    bench.server_of(&from_client(plan, 1, ACK));
    bench.server_of(&start(plan, 4, 7));
    bench.server_of(&start(plan, 5, 7));
    let counters = &bench.switch.common.counters.common.table;
    assert_eq!((counters.inserted.get(), counters.evicted.get()), (5, 1));
    assert_eq!(bench.table(plan).1, [3, 1, 0]);
    for port in 3..=5 {
        bench.server_of(&from_client(plan, port, ACK));
    }
    // Full of live connections: a new one goes where it is sent, without an entry.
    let selected = port_of(&mut bench, plan, 2);
    assert_eq!(bench.server_of(&start(plan, selected, 7)), Some(2));
    assert_eq!(bench.table(plan), (5, [0, 4, 0]));
    // One at its end makes room.
    bench.server_of(&from_client(plan, 3, RST));
    assert_eq!(bench.table(plan).1, [0, 3, 1]);
    bench.server_of(&start(plan, selected, 7));
    bench.server_of(&from_client(plan, selected, ACK));
    assert_eq!(bench.table(plan), (6, [0, 4, 0]));
    bench.now = bench.now + Ticks::from_secs(3600);
    for _ in 0..4 {
        bench.on_timer();
    }
    assert_eq!(bench.table(plan).1, [0, 0, 0]);
    assert_eq!(bench.switch.common.counters.common.table.expired.get(), 4);
}

#[test]
fn two_services_of_one_client_endpoint_are_two_connections() {
    let plan = V4_PLAN;
    let mut both = service(plan, plan, 3);
    both.ports = vec![80, 443];
    let mut bench = Bench::new(settings(both));
    bench.server_of(&start(plan, 1000, 7));
    let tls = Segment::syn(&client(plan, 1000), "203.0.113.10:443", 9).inbound().frame();
    bench.server_of(&tls);
    assert_eq!(bench.table(plan), (2, [2, 0, 0]));
}

#[derive(Clone, Debug)]
enum Event {
    Start(u16),
    Data(u16),
    Answer(u16),
    Set([bool; 3]),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1u16..20).prop_map(Event::Start),
        6 => (1u16..20).prop_map(Event::Data),
        2 => (1u16..20).prop_map(Event::Answer),
        2 => any::<[bool; 3]>().prop_map(Event::Set),
        1 => (0u64..300).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever becomes of the set, and in whatever order things happen: a connection that has
    /// been established stays at its server.
    #[test]
    fn live_ones_stay(events in proptest::collection::vec(event(), 1..200), v6 in any::<bool>()) {
        let plan = if v6 { V6_PLAN } else { V4_PLAN };
        let mut bench = bench(plan);
        let mut opening = [None; 20];
        let mut live: [Option<usize>; 20] = [None; 20];
        for event in events {
            match event {
                Event::Start(port) => {
                    let server = bench.server_of(&start(plan, port, 7));
                    match live[usize::from(port)] {
                        Some(place) => prop_assert_eq!(server, Some(place)),
                        None => opening[usize::from(port)] = server.or(opening[usize::from(port)]),
                    }
                }
                Event::Data(port) => {
                    let at = usize::from(port);
                    let server = bench.server_of(&from_client(plan, port, ACK));
                    if let Some(place) = live[at].or(opening[at]) {
                        prop_assert_eq!(server, Some(place));
                        live[at] = Some(place);
                    }
                }
                Event::Answer(port) => {
                    bench.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
                }
                Event::Set(servers) => bench.servers(&servers),
                Event::Wait(millis) => {
                    // Short of the 30 s after which an opening one is forgotten.
                    bench.now = bench.now + Ticks::from_millis(millis.min(29_000 / 200));
                    bench.on_timer();
                }
            }
        }
    }
}

#[test]
fn a_blind_acknowledgement_makes_no_entry_that_stays() {
    for plan in PLANS {
        let mut bench = bench(plan);
        bench.server_of(&start(plan, 1000, 7)).unwrap();
        bench.pass(Side::Inside, &from_server(plan, 1000, SYN_ACK));
        let blind = Segment::new(&client(plan, 1000), plan.service, ACK, 1001, 77).inbound();
        bench.server_of(&blind.frame()).unwrap();
        assert_eq!(bench.table(plan), (1, [1, 0, 0]));
        bench.server_of(&from_client(plan, 1000, ACK)).unwrap();
        assert_eq!(bench.table(plan), (1, [0, 1, 0]));
    }
}
