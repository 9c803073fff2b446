//! One client network does not fill the table.

use super::*;

/// Entries of the table, and three quarters of them.
const ENTRIES: u16 = 256;
const SCARCE: u16 = 192;

#[test]
fn one_client_network_leaves_a_quarter_of_the_table_to_others() {
    let mut harness = Harness::with(|settings| {
        settings.max_connections = [ENTRIES.into(), 1];
        settings.busy_connections = 1000;
        settings.busy_syn_rate = 1 << 30;
    });
    let mut connect = |address: &str, port: u16| {
        let client = format!("{address}:{port}");
        let syn = Segment::syn(&client, SERVER, 100).options(&TAG_B);
        let copy = syn.tunnelled("203.0.113.10", "198.51.100.10");
        let verdict = harness.pass(Side::Outside, &copy).0;
        if verdict == Verdict::CopyAccepted {
            harness.pass(Side::Inside, &Segment::syn_ack(WEB, &client, 500, 101).frame());
            let ack = Segment::ack(&client, WEB, 101, 501).inbound().frame();
            assert_eq!(harness.pass(Side::Outside, &ack).0, Verdict::ToWebServer);
        }
        verdict
    };
    for number in 0..ENTRIES {
        let expected = if number < SCARCE { Verdict::CopyAccepted } else { Verdict::Busy };
        assert_eq!(connect("198.18.1.10", 1024 + number), expected, "connection {number}");
    }
    for number in 0..20 {
        let expected = if number < 16 { Verdict::CopyAccepted } else { Verdict::Busy };
        assert_eq!(connect("198.18.2.10", 1024 + number), expected, "connection {number}");
    }
    let counters = &harness.replica.common.counters.common.table;
    let refused = u64::from(ENTRIES - SCARCE) + 4;
    assert_eq!((counters.refused_by_share.get(), counters.evicted.get()), (refused, 0));
}
