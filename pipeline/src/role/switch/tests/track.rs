//! What establishes a connection, what ends it, and what it may take from others.

use super::affinity::{ACK, FIN, RST, SYN_ACK, from_client, from_server, harness, port_of, syn_of};
use super::*;
use crate::table::State;

#[test]
fn a_blind_ack_does_not_establish_an_entry() {
    for plan in PLANS {
        let mut harness = harness(plan);
        harness.server_of(&syn_of(plan, 1000, 7)).unwrap();
        harness.pass(Side::Inside, &from_server(plan, 1000, SYN_ACK));
        let blind = Segment::new(&client(plan, 1000), plan.service, ACK, 1001, 77).inbound();
        harness.server_of(&blind.frame()).unwrap();
        assert_eq!(harness.table(plan), (1, [1, 0, 0]));
        harness.server_of(&from_client(plan, 1000, ACK)).unwrap();
        assert_eq!(harness.table(plan), (1, [0, 1, 0]));
    }
}

fn phase(harness: &Harness, plan: Plan) -> Vec<Phase> {
    let count = |p: Phase| match ip(plan.servers[0]) {
        IpAddr::V4(_) => harness.switch.v4.affinities.count(p),
        IpAddr::V6(_) => harness.switch.v6.affinities.count(p),
    };
    let all = Phase::ALL.iter().copied();
    all.flat_map(|phase| std::iter::repeat_n(phase, count(phase))).collect()
}

#[test]
fn where_servers_are_heard_the_client_alone_establishes_nothing() {
    for plan in PLANS {
        let mut harness = harness(plan);
        let port = port_of(&mut harness, plan, 1);
        let other = (port + 1..).find(|p| harness.server_of(&syn_of(plan, *p, 7)) == Some(1));
        let other = other.unwrap();
        harness = self::harness(plan);
        // Nothing of this server was heard yet: it may answer by another way.
        harness.server_of(&syn_of(plan, port, 7));
        let mut damaged = from_client(plan, port, ACK);
        let last = damaged.len() - 4;
        damaged[last] ^= 1;
        harness.server_of(&damaged);
        assert_eq!(phase(&harness, plan), [Phase::Opening], "a wrong checksum");
        harness.server_of(&from_client(plan, port, ACK));
        assert_eq!(phase(&harness, plan), [Phase::Unheard]);
        // Its SYN/ACK shows that its packets pass, and that the client's was blind.
        harness.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
        assert_eq!(phase(&harness, plan), [Phase::Opening]);
        harness.server_of(&syn_of(plan, other, 7));
        harness.server_of(&from_client(plan, other, ACK));
        assert_eq!(phase(&harness, plan), [Phase::Opening; 2]);
        // That is forgotten after a while without a SYN/ACK.
        harness.now = harness.now + Ticks::from_secs(601);
        harness.server_of(&syn_of(plan, other, 7));
        harness.server_of(&from_client(plan, other, ACK));
        assert!(phase(&harness, plan).contains(&Phase::Unheard));
    }
}

#[test]
fn a_second_syn_ack_with_another_number_does_not_keep_a_connection_from_being_established() {
    for plan in PLANS {
        let to_client = |flags, seq, ack, data: &[u8]| {
            let segment = Segment::new(plan.service, &client(plan, 1000), flags, seq, ack);
            segment.payload(data).frame()
        };
        let mut harness = harness(plan);
        harness.server_of(&syn_of(plan, 1000, 7));
        harness.pass(Side::Inside, &to_client(SYN_ACK, 7000, 8, b""));
        harness.pass(Side::Inside, &to_client(SYN_ACK, 9000, 8, b""));
        for (frame, expected) in [
            // An answer to a blind segment, RSTs of the wrong kind.
            (to_client(ACK, 9001, 8, b""), Phase::Opening),
            (to_client(RST, 77, 0, b""), Phase::Opening),
            (to_client(ACK, 7001, 20, b""), Phase::Established),
        ] {
            // The client has acknowledged the first one.
            let ack = Segment::new(&client(plan, 1000), plan.service, ACK, 8, 7001).inbound();
            harness.server_of(&ack.frame());
            harness.pass(Side::Inside, &frame);
            assert_eq!(phase(&harness, plan), [expected]);
        }
        let mut harness = self::harness(plan);
        harness.server_of(&syn_of(plan, 1000, 7));
        harness.pass(Side::Inside, &to_client(ACK, 7001, 8, b"220 mail"));
        assert_eq!(phase(&harness, plan), [Phase::Established], "the server speaks first");
    }
}

#[test]
fn only_a_fin_or_rst_near_the_clients_last_segment_ends_a_connection() {
    let mebibyte = 1u32 << 20;
    for plan in PLANS {
        for flags in [FIN, RST] {
            let segment =
                |flags, seq| Segment::new(&client(plan, 1000), plan.service, flags, seq, 5001);
            let mut harness = harness(plan);
            harness.server_of(&syn_of(plan, 1000, 7));
            harness.pass(Side::Inside, &from_server(plan, 1000, SYN_ACK));
            harness.server_of(&segment(ACK, 8).inbound().frame());
            harness.pass(Side::Inside, &from_server(plan, 1000, ACK));
            // The client sends 20 MiB; somebody else sends something else between.
            for step in 0..40 {
                let data = segment(ACK, 8 + step * mebibyte / 2).payload(b"data");
                harness.server_of(&data.inbound().frame());
                harness
                    .server_of(&segment(ACK, 0x7000_0000 + step).payload(b"x").inbound().frame());
            }
            let last = 8 + 39 * mebibyte / 2;
            for blind in [8, 0x7000_0000, last + 3 * mebibyte, last - 3 * mebibyte] {
                harness.server_of(&segment(flags, blind).inbound().frame());
                assert_eq!(phase(&harness, plan), [Phase::Established], "{blind}");
            }
            let mut damaged = segment(flags, last).inbound().frame();
            let at = damaged.len() - 4;
            damaged[at] ^= 1;
            harness.server_of(&damaged);
            assert_eq!(phase(&harness, plan), [Phase::Established], "a wrong checksum");
            harness.server_of(&segment(flags, last).inbound().frame());
            let ended = if flags == FIN { Phase::HalfClosed } else { Phase::Reset };
            assert_eq!(phase(&harness, plan), [ended]);
            // A connection that goes on after it has ignored a RST.
            harness.now = harness.now + Ticks::from_secs(3);
            harness.server_of(&segment(ACK, last).payload(b"data").inbound().frame());
            let then = if flags == FIN { Phase::HalfClosed } else { Phase::Established };
            assert_eq!(phase(&harness, plan), [then]);
        }
    }
}

#[test]
fn half_closed_connections_expire_and_forged_ones_are_evicted_before_established_ones() {
    let plan = V4_PLAN;
    let mut settings = settings(service(plan, plan, 1));
    settings.services[0] = service(plan, plan, 3);
    settings.max_connections = [2, 1];
    let mut harness = Harness::new(settings);
    // Two that the servers have not been heard of: the one with the older last packet goes.
    for port in [1000, 1001] {
        harness.server_of(&syn_of(plan, port, 7));
        harness.server_of(&from_client(plan, port, ACK));
    }
    harness.now = harness.now + Ticks::from_secs(2);
    harness.server_of(&from_client(plan, 1000, ACK));
    harness.server_of(&syn_of(plan, 1002, 7));
    harness.pass(Side::Inside, &from_server(plan, 1002, SYN_ACK));
    harness.server_of(&from_client(plan, 1002, ACK));
    assert_eq!(phase(&harness, plan), [Phase::Unheard, Phase::Established]);
    harness.server_of(&syn_of(plan, 1003, 7));
    assert_eq!(phase(&harness, plan), [Phase::Opening, Phase::Established]);
    harness.pass(Side::Inside, &from_server(plan, 1002, FIN));
    assert_eq!(phase(&harness, plan), [Phase::Opening, Phase::HalfClosed]);
    harness.now = harness.now + Ticks::from_secs(10);
    harness.on_timer();
    assert_eq!(phase(&harness, plan), [Phase::Opening], "10 s of `closing` have passed");
}

#[test]
fn one_client_network_leaves_a_quarter_of_the_table_to_others() {
    for plan in PLANS {
        let mut harness = harness(plan);
        for port in 1024..1024 + 256 {
            let server = harness.server_of(&syn_of(plan, port, 7));
            assert!(server.is_some());
            harness.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
            // Without an entry they go to the selected server.
            assert_eq!(harness.server_of(&from_client(plan, port, ACK)), server, "{port}");
        }
        assert_eq!(harness.table(plan), (192, [0, 192, 0]));
        harness.on_timer();
        let counters = &harness.switch.common.counters.common;
        let used =
            if host(plan.service).contains(':') { &counters.table_v6 } else { &counters.table };
        assert_eq!((used.refused_by_share.get(), used.evicted.get()), (64, 0));
    }
}
