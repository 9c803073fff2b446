//! Connections stay at their servers in another process, wherever the first one was killed.

use super::affinity::{ACK, FIN, RST, SYN_ACK, from_client, from_server, harness, port_of, syn_of};
use super::*;
use crate::role::tests::killed::{Content, Killed, adopt, content};
use crate::table::Entry;
use crate::table::failpoints::killed_in;

fn view(switch: &Switch) -> Content {
    fn shown<F: Family>(entry: &Entry<Pair<F>, Phase, Affinity>) -> String {
        format!("{:?} {:?} {:?} {:?}", entry.key, entry.state(), entry.seen(), entry.value)
    }
    [content(&switch.v4.affinities, shown), content(&switch.v6.affinities, shown)]
}

fn placed(plan: Plan) -> Harness {
    let mut harness = harness(plan);
    harness.switch.place_tables([None, None]).unwrap();
    harness
}

/// Goes on in another process whose servers get no new connections.
fn restarted(harness: &Harness, plan: Plan, servers: usize) -> (Harness, crate::table::Imported) {
    let memory = harness.switch.table_memory();
    let mut next = Harness::new(settings(service(plan, plan, servers)));
    next.servers(&[false; 3][..servers]);
    let fresh = Harness::new(settings(service(plan, plan, servers))).switch;
    let all = memory.each_ref().map(Vec::as_slice);
    let old = std::mem::replace(&mut next.switch, fresh);
    let (switch, done) = adopt(&all, old, harness.now);
    next.switch = switch;
    next.now = harness.now;
    (next, done)
}

#[test]
fn connections_stay_at_their_servers_in_another_process() {
    for plan in PLANS {
        let mut harness = placed(plan);
        let ports: Vec<_> = (0..3).map(|server| port_of(&mut harness, plan, server)).collect();
        for &port in &ports {
            harness.server_of(&syn_of(plan, port, 7));
            harness.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
            harness.server_of(&from_client(plan, port, ACK));
        }
        let (mut next, done) = restarted(&harness, plan, 3);
        assert_eq!((done.adopted, done.invalid), (3, 0));
        for (server, &port) in ports.iter().enumerate() {
            assert_eq!(next.server_of(&from_client(plan, port, ACK)), Some(server));
            assert!(next.switch.common.states[0].passes(server as u8, next.now));
        }
        // Of two servers there is no third.
        let (_, done) = restarted(&harness, plan, 2);
        assert_eq!((done.adopted, done.invalid), (2, 1));
    }
}

#[test]
fn an_only_server_that_gets_no_new_connections_keeps_those_of_the_process_before() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 1)));
        harness.switch.place_tables([None, None]).unwrap();
        assert_eq!(harness.server_of(&syn_of(plan, 1000, 7)), Some(0));
        let (mut next, _) = restarted(&harness, plan, 1);
        assert_eq!(next.server_of(&from_client(plan, 1000, ACK)), Some(0));
        assert_eq!(next.pass(Side::Outside, &syn_of(plan, 1001, 7)), Verdict::NoServer);
    }
}

#[test]
fn a_switch_killed_anywhere_leaves_every_connection_whole() {
    for plan in PLANS {
        let mut harness = placed(plan);
        let mut unfinished = 0;
        for (side, frame) in [
            (Side::Outside, syn_of(plan, 1000, 7)),
            (Side::Outside, syn_of(plan, 1000, 7)),
            (Side::Inside, from_server(plan, 1000, SYN_ACK)),
            (Side::Outside, from_client(plan, 1000, ACK)),
            (Side::Outside, from_client(plan, 1000, FIN)),
            (Side::Inside, from_server(plan, 1000, FIN)),
            (Side::Outside, from_client(plan, 1000, RST)),
            (Side::Outside, syn_of(plan, 1000, 9)),
        ] {
            let before = harness.switch.table_memory();
            let seen = killed_in(|| {
                harness.pass(side, &frame);
            });
            let killed = Killed { before, seen, after: harness.switch.table_memory() };
            let fresh = || Harness::new(settings(service(plan, plan, 3))).switch;
            unfinished += killed.check(harness.now, fresh, view);
        }
        assert!(unfinished > 10, "only {unfinished} points within a change");
    }
}
