//! One client network does not fill the table.

use super::rig::{Hosts, ISN, Rig, V4_HOSTS, V6_HOSTS};
use super::*;

/// Entries of the table, and three quarters of them.
const ENTRIES: usize = 256;
const SCARCE: usize = 192;

/// Makes a connection that a replica wins, and that the client uses; returns the verdict on its
/// SYN.
fn connect<M: Mode>(rig: &mut Rig<M>, client: &str) -> Verdict {
    let server = rig.hosts.server;
    let syn = Segment::syn(client, server, ISN).frame();
    let verdict = rig.burst(Side::Inside, &[syn]).verdicts[0];
    if verdict == Verdict::Tagged {
        let answer = rig.answer_to(client, 0, ISN + 1);
        assert_eq!(rig.receive(answer).0, Verdict::ReplicaWon);
        let data = Segment::ack(client, server, ISN + 1, 501).frame();
        assert_eq!(rig.burst(Side::Inside, &[data]).verdicts[0], Verdict::ToReplica);
    }
    verdict
}

fn one_network_leaves_a_quarter_to_others<M: Mode>(
    hosts: &'static Hosts,
    client: impl Fn(u8, usize) -> String,
) {
    let mut rig = Rig::<M>::with_settings(hosts, Policy::default(), Keys::default(), |settings| {
        settings.max_connections = [ENTRIES; 2];
    });
    let mut connect = |prefix, number| connect(&mut rig, &client(prefix, number));
    for number in 0..ENTRIES + 50 {
        let expected = if number < SCARCE { Verdict::Tagged } else { Verdict::UntaggedTableFull };
        assert_eq!(connect(1, number), expected, "connection {number}");
    }
    // Others have their share each, and no more.
    for number in 0..20 {
        let expected = if number < 16 { Verdict::Tagged } else { Verdict::UntaggedTableFull };
        assert_eq!(connect(2, number), expected, "connection {number}");
    }
    let counters = rig.gateway.counters();
    let table = counters.table_of(hosts.version);
    let refused = (ENTRIES + 50 - SCARCE + 4) as u64;
    assert_eq!((table.refused_by_share.get(), table.evicted.get()), (refused, 0));
}

#[test]
fn one_client_network_leaves_a_quarter_of_the_table_to_others() {
    let v4 = |prefix: u8, number: usize| format!("198.18.{prefix}.{}:40000", number % 250 + 1);
    let v4 = |prefix, number| match number {
        0..250 => v4(prefix, number),
        _ => v4(prefix, number).replace(":40000", ":40001"),
    };
    let v6 = |prefix: u8, number: usize| format!("[2001:db8:{prefix}:{number:x}::1]:40000");
    one_network_leaves_a_quarter_to_others::<A>(&V4_HOSTS, v4);
    one_network_leaves_a_quarter_to_others::<B>(&V4_HOSTS, v4);
    one_network_leaves_a_quarter_to_others::<C>(&V4_HOSTS, v4);
    one_network_leaves_a_quarter_to_others::<A>(&V6_HOSTS, v6);
    one_network_leaves_a_quarter_to_others::<C>(&V6_HOSTS, v6);
}

#[test]
fn a_flood_of_unanswered_syns_keeps_nobody_from_racing() {
    let mut rig = Rig::<A>::with_settings(&V4_HOSTS, Policy::default(), Keys::default(), |own| {
        own.max_connections = [ENTRIES; 2];
    });
    for number in 0..100 {
        assert_eq!(connect(&mut rig, &format!("198.18.1.{number}:40000")), Verdict::Tagged);
    }
    // Of the same network and of others: only races are evicted.
    for number in 0..1000 {
        let spoofed = format!("198.18.{}.{}:7", number % 2 + 1, number / 2 % 250 + 1);
        let syn = Segment::syn(&spoofed, V4_HOSTS.server, ISN).frame();
        rig.burst(Side::Inside, &[syn]);
    }
    assert_eq!(connect(&mut rig, "198.18.1.200:40000"), Verdict::Tagged);
    let counters = rig.gateway.counters();
    assert_eq!(counters.table_of(Version::V4).refused_by_share.get(), 0);
}
