//! What a reload keeps, and what it changes at once.

use super::*;

const OTHER: &str = "198.18.2.10:40000";
const OTHER_WEB: &str = "198.51.100.20:80";

impl Harness {
    /// Reloads with changed settings.
    fn reload(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.replica.common.settings.clone();
        change(&mut settings);
        let next = Harness::with(|own| *own = Settings { max_connections: [1; 2], ..settings });
        drop(self.replica.reload(next.replica, self.now));
    }

    fn copy_of(&mut self, client: &str) -> (Verdict, Option<Vec<u8>>) {
        let syn = Segment::syn(client, SERVER, 100).options(&TAG_B);
        self.pass(Side::Outside, &syn.tunnelled("203.0.113.10", "198.51.100.10"))
    }

    /// Both ends of the connection send data, which the replica handles.
    fn goes_on(&mut self) {
        let data = Segment::ack(CLIENT, WEB, 101, 501).inbound().frame();
        assert_eq!(self.pass(Side::Outside, &data).0, Verdict::ToWebServer);
        let as_server = Segment::ack(SERVER, CLIENT, 501, 101).frame();
        let sent = self.pass(Side::Inside, &Segment::ack(WEB, CLIENT, 501, 101).frame());
        assert_eq!(sent, (Verdict::FromWebServer, Some(as_server)));
    }
}

fn second() -> Server {
    Server {
        name: "second".into(),
        address: "198.51.100.20".parse().unwrap(),
        port: None,
        mac: Some([4; 6]),
        weight: 1,
        has_vip: false,
    }
}

#[test]
fn a_service_that_has_left_accepts_no_copy_and_keeps_its_connections() {
    let mut harness = established();
    harness.reload(|settings| settings.services[0].retired = true);
    harness.goes_on();
    assert_eq!(harness.copy_of(OTHER).0, Verdict::CopyNoService);
    assert!(harness.replica.common.selection.get().is_dead(), "no probe is answered");
    harness.reload(|settings| settings.services[0].retired = false);
    harness.goes_on();
    assert_eq!(harness.copy_of(OTHER).0, Verdict::CopyAccepted);
}

#[test]
fn a_web_server_that_has_left_keeps_its_connections_and_gets_no_new_ones() {
    let mut harness = established();
    harness.reload(|settings| {
        settings.services[0].servers[0].weight = 0;
        settings.services[0].servers.push(second());
    });
    harness.goes_on();
    let to_second = Segment::syn(OTHER, OTHER_WEB, 100).options(&[]);
    let (verdict, sent) = harness.copy_of(OTHER);
    assert_eq!(verdict, Verdict::CopyAccepted);
    assert_eq!(sent.unwrap()[14..], to_second.frame()[14..]);
    let syns = harness.replica.counters().syns().iter().map(|c| c.get()).collect::<Vec<_>>();
    assert_eq!(syns, [1, 1]);
    // Even if the successor has forgotten it, what it sends is its connection's.
    harness.reload(|settings| {
        settings.services[0].servers.remove(0);
        settings.earlier_servers = EarlierNumbers::new([Some(1)]);
    });
    harness.goes_on();
    let hosts = &harness.replica.common.hosts;
    assert!(hosts.is_server("198.51.100.10".parse().unwrap()));
    let syns = harness.replica.counters().syns().iter().map(|c| c.get()).collect::<Vec<_>>();
    assert_eq!(syns, [1]);
}

#[test]
fn limits_and_time_outs_change_at_once_and_what_is_counted_stays() {
    let mut harness = established();
    harness.reload(|settings| settings.busy_connections = 1);
    assert_eq!(harness.copy_of(OTHER).0, Verdict::Busy, "the connection counts");
    harness.reload(|settings| {
        settings.busy_connections = 16;
        settings.timeouts[1] = Ticks::from_secs(60);
    });
    harness.now = Ticks::from_secs(100);
    let data = Segment::ack(CLIENT, WEB, 101, 501).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &data).0, Verdict::NoEntry);
}
