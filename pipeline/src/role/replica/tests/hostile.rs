//! Blind packets, which any host can send under a client's address: they must neither make entries
//! that stay, nor end connections, nor keep the replica from serving others.

use super::*;
use crate::stage::tag::Configuration;

pub(super) const CONFIGURATIONS: [Configuration; 3] =
    [Configuration::A, Configuration::B, Configuration::C];

pub(super) fn client(port: u16) -> String {
    format!("198.18.1.10:{port}")
}

impl Harness {
    /// A replica with room for 64 connections, whose web server has a known MAC address.
    pub(super) fn roomy(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(|settings| {
            settings.max_connections = [64, 1];
            settings.busy_connections = 64;
            settings.busy_syn_rate = 1000;
            settings.services[0].servers[0].mac = Some([2, 0, 0, 0, 0, 0x31]);
            change(settings);
        })
    }

    pub(super) fn syn_copy(
        &mut self,
        port: u16,
        isn: u32,
        configuration: Configuration,
    ) -> Verdict {
        let tag = [253, 5, 0x4e, 0x52, 1 | (configuration as u8) << 1, 1, 1, 1];
        let syn = Segment::syn(&client(port), SERVER, isn).options(&tag);
        self.pass(Side::Outside, &syn.tunnelled("203.0.113.10", "198.51.100.10")).0
    }

    /// Sends a client's segment in the form of its configuration.
    pub(super) fn client_sends(
        &mut self,
        segment: Segment,
        configuration: Configuration,
    ) -> Verdict {
        let frame = match configuration {
            Configuration::C => {
                let port = segment.from.port();
                let inner = Segment { to: SERVER.parse().unwrap(), ..segment };
                assert_eq!(inner.from.port(), port);
                inner.inbound().tunnelled("198.18.1.10", "198.51.100.10")
            }
            Configuration::A | Configuration::B => segment.inbound().frame(),
        };
        self.pass(Side::Outside, &frame).0
    }

    pub(super) fn web_sends(&mut self, segment: Segment) -> Verdict {
        self.pass(Side::Inside, &segment.frame()).0
    }

    /// Opens a connection with ISN 100, whose web server's first number is 500, and establishes it.
    pub(super) fn connection(&mut self, port: u16, configuration: Configuration) {
        assert_eq!(self.syn_copy(port, 100, configuration), Verdict::CopyAccepted);
        let answer = Segment::syn_ack(WEB, &client(port), 500, 101);
        assert_eq!(self.web_sends(answer), Verdict::FromWebServer);
        let ack = Segment::ack(&client(port), WEB, 101, 501);
        assert_eq!(self.client_sends(ack, configuration), Verdict::ToWebServer);
        assert_eq!(self.phase(port), Some(Phase::Established));
    }

    pub(super) fn phase(&mut self, port: u16) -> Option<Phase> {
        let key = crate::testing::endpoint::<V4>(&client(port));
        let table = &mut self.replica.v4.connections;
        let slot = table.find(table.hash(key), key, self.now)?;
        Some(table.get(slot).state())
    }

    pub(super) fn wait(&mut self, secs: u64) {
        self.now = self.now + Ticks::from_secs(secs);
    }
}

#[test]
fn an_ack_establishes_nothing_before_the_web_server_has_answered() {
    for configuration in [Configuration::B, Configuration::C] {
        let mut harness = Harness::roomy(|_| {});
        harness.syn_copy(1, 100, configuration);
        harness.client_sends(Segment::ack(&client(1), WEB, 101, 501), configuration);
        assert_eq!(harness.phase(1), Some(Phase::Opening), "{configuration:?}");
    }
    // Under A the web server's packets may take another path, until one of them has passed.
    let mut harness = Harness::roomy(|_| {});
    for (port, expected) in [(1, Phase::Established), (2, Phase::Opening)] {
        harness.syn_copy(port, 100, Configuration::A);
        harness.client_sends(Segment::ack(&client(port), WEB, 101, 77), Configuration::A);
        assert_eq!(harness.phase(port), Some(expected));
        harness.connection(10 + port, Configuration::A);
    }
}

#[test]
fn an_ack_with_a_wrong_checksum_establishes_nothing() {
    let mut harness = Harness::roomy(|_| {});
    harness.syn_copy(1, 100, Configuration::B);
    harness.web_sends(Segment::syn_ack(WEB, &client(1), 500, 101));
    let mut wrong = Segment::ack(&client(1), WEB, 101, 501).inbound().frame();
    wrong[14 + 20 + 16] ^= 0x55;
    assert_eq!(harness.pass(Side::Outside, &wrong).0, Verdict::ToWebServer);
    assert_eq!(harness.phase(1), Some(Phase::Opening));
}

#[test]
fn half_open_connections_do_not_make_a_replica_busy() {
    let mut harness = Harness::roomy(|settings| settings.busy_connections = 2);
    for port in 1..=200 {
        assert_eq!(harness.syn_copy(port, 100, Configuration::B), Verdict::CopyAccepted);
    }
    harness.connection(1001, Configuration::B);
    assert_eq!(harness.syn_copy(2001, 100, Configuration::B), Verdict::CopyAccepted);
    harness.connection(1002, Configuration::B);
    assert_eq!(harness.syn_copy(2002, 100, Configuration::B), Verdict::Busy);
}

#[test]
fn connections_that_nobody_uses_do_not_keep_a_replica_busy() {
    let mut harness = Harness::roomy(|settings| settings.busy_connections = 2);
    harness.connection(1, Configuration::B);
    harness.connection(2, Configuration::B);
    assert_eq!(harness.syn_copy(3, 100, Configuration::B), Verdict::Busy);
    harness.wait(200);
    // Not heard of for so long: it does count for a while.
    assert_eq!(harness.syn_copy(3, 100, Configuration::B), Verdict::Busy);
    let data = || Segment::ack(&client(1), WEB, 101, 501).payload(b"GET /");
    harness.client_sends(data(), Configuration::B);
    harness.wait(80);
    assert_eq!(harness.syn_copy(3, 100, Configuration::B), Verdict::CopyAccepted);
    // Heard of again.
    harness.web_sends(Segment::ack(WEB, &client(2), 501, 101).payload(b"OK"));
    assert_eq!(harness.syn_copy(4, 100, Configuration::B), Verdict::Busy);
    // Its end ends the load.
    harness.web_sends(Segment::new(WEB, &client(2), Flags::FIN | Flags::ACK, 503, 101));
    assert_eq!(harness.syn_copy(4, 100, Configuration::B), Verdict::CopyAccepted);
}

#[test]
fn a_repeated_copy_pays_like_a_first_one_and_there_are_eight() {
    let mut harness = Harness::roomy(|settings| settings.busy_syn_rate = 2);
    let again = |harness: &mut Harness| harness.syn_copy(1, 100, Configuration::B);
    assert_eq!(again(&mut harness), Verdict::CopyAccepted);
    harness.now = harness.now + Ticks::from_millis(600);
    assert_eq!(harness.syn_copy(2, 100, Configuration::B), Verdict::CopyAccepted);
    assert_eq!(again(&mut harness), Verdict::CopyRetransmit);
    assert_eq!(harness.syn_copy(3, 100, Configuration::B), Verdict::Busy);
    harness.now = harness.now + Ticks::from_millis(520);
    assert_eq!(harness.syn_copy(3, 100, Configuration::B), Verdict::CopyAccepted);
    assert_eq!(again(&mut harness), Verdict::Busy);
    for _ in 2..=8 {
        harness.wait(2);
        assert_eq!(again(&mut harness), Verdict::CopyRetransmit);
    }
    harness.wait(2);
    assert_eq!(again(&mut harness), Verdict::CopyRetransmitLimit);
    // The limit does not renew the entry.
    harness.wait(28);
    assert_eq!(again(&mut harness), Verdict::CopyAccepted);
}

#[test]
fn a_connection_is_soon_forgotten_when_only_one_side_has_ended_it() {
    for configuration in CONFIGURATIONS {
        for from in Side::ALL {
            let mut harness = Harness::roomy(|_| {});
            harness.connection(1, configuration);
            let fin = |from: &str, to: &str, sequence, ack| {
                Segment::new(from, to, Flags::FIN | Flags::ACK, sequence, ack)
            };
            match from {
                Side::Inside => harness.web_sends(fin(WEB, &client(1), 501, 101)),
                Side::Outside => {
                    harness.client_sends(fin(&client(1), WEB, 101, 501), configuration)
                }
            };
            assert_eq!(harness.phase(1), Some(Phase::HalfClosed), "{configuration:?} {from:?}");
            harness.wait(239);
            harness.web_sends(Segment::ack(WEB, &client(1), 502, 101).payload(b"still sending"));
            harness.wait(239);
            assert_eq!(harness.phase(1), Some(Phase::HalfClosed));
            harness.wait(1);
            assert_eq!(harness.phase(1), None);
        }
    }
}

#[test]
fn a_blind_fin_or_rst_changes_no_state() {
    for configuration in CONFIGURATIONS {
        for flags in [Flags::RST, Flags::RST | Flags::ACK, Flags::FIN | Flags::ACK] {
            let mut harness = Harness::roomy(|_| {});
            harness.connection(1, configuration);
            harness.web_sends(Segment::ack(WEB, &client(1), 501, 3_000_000_000).payload(b"OK"));
            let end = |sequence: u32| Segment::new(&client(1), WEB, flags, sequence, 503);
            for sequence in [0, 101, 2_999_999_999, 3_000_000_000 + (1 << 20)] {
                harness.client_sends(end(sequence), configuration);
                assert_eq!(harness.phase(1), Some(Phase::Established), "{sequence}");
            }
            if configuration != Configuration::C {
                let mut wrong = end(3_000_000_000).inbound().frame();
                wrong[14 + 20 + 16] ^= 0x55;
                assert_eq!(harness.pass(Side::Outside, &wrong).0, Verdict::ToWebServer);
                assert_eq!(harness.phase(1), Some(Phase::Established));
            }
            harness.client_sends(end(3_000_000_000 + 1000), configuration);
            let phase = if flags & Flags::RST != 0 { Phase::Reset } else { Phase::HalfClosed };
            assert_eq!(harness.phase(1), Some(phase), "{configuration:?}");
        }
    }
}

#[test]
fn a_connection_that_goes_on_after_a_rst_is_established_again() {
    let mut harness = Harness::roomy(|_| {});
    harness.connection(1, Configuration::B);
    let reset = Segment::new(&client(1), WEB, Flags::RST, 101, 0);
    harness.client_sends(reset, Configuration::B);
    let data = || Segment::ack(&client(1), WEB, 101, 501).payload(b"GET /");
    harness.wait(2);
    harness.client_sends(data(), Configuration::B);
    assert_eq!(harness.phase(1), Some(Phase::Reset));
    harness.wait(3);
    harness.client_sends(data(), Configuration::B);
    assert_eq!(harness.phase(1), Some(Phase::Established));
}

#[test]
fn a_full_table_evicts_what_is_over_then_half_open_then_reset_and_nothing_else() {
    let mut harness = Harness::roomy(|settings| settings.max_connections = [6, 1]);
    for port in 1..=4 {
        harness.connection(port, Configuration::B);
    }
    let fin = |from: &str, to: &str, sequence, ack| {
        Segment::new(from, to, Flags::FIN | Flags::ACK, sequence, ack)
    };
    // Established; half closed; reset; closed; half-open; lost.
    for port in [2, 4] {
        harness.web_sends(fin(WEB, &client(port), 501, 101));
    }
    let reset = Segment::new(&client(3), WEB, Flags::RST, 101, 0);
    harness.client_sends(reset, Configuration::B);
    harness.client_sends(fin(&client(4), WEB, 101, 502), Configuration::B);
    harness.syn_copy(5, 100, Configuration::B);
    harness.syn_copy(6, 100, Configuration::B);
    harness.client_sends(Segment::new(&client(6), WEB, Flags::RST, 101, 0), Configuration::B);
    assert_eq!(harness.phase(6), Some(Phase::Lost));
    // Each new one is established at once, so that it is not evicted.
    for (new, evicted) in [(11, 4), (12, 6), (13, 5), (14, 3)] {
        assert!(harness.phase(evicted).is_some());
        harness.connection(new, Configuration::B);
        assert_eq!(harness.phase(evicted), None, "for {new}");
    }
    assert_eq!(harness.syn_copy(15, 100, Configuration::B), Verdict::Busy);
    assert_eq!(harness.phase(1), Some(Phase::Established));
    assert_eq!(harness.phase(2), Some(Phase::HalfClosed));
}

#[test]
fn a_loser_is_forgotten_soon_after_its_reset() {
    for configuration in CONFIGURATIONS {
        let mut harness = Harness::roomy(|_| {});
        harness.syn_copy(1, 100, configuration);
        harness.web_sends(Segment::syn_ack(WEB, &client(1), 500, 101));
        // A blind one; then the gateway's.
        harness.client_sends(Segment::new(&client(1), WEB, Flags::RST, 102, 0), configuration);
        assert_eq!(harness.phase(1), Some(Phase::Opening));
        harness.client_sends(Segment::new(&client(1), WEB, Flags::RST, 101, 0), configuration);
        assert_eq!(harness.phase(1), Some(Phase::Lost));
        harness.wait(10);
        assert_eq!(harness.phase(1), None);
    }
}

#[test]
fn either_of_two_syn_acks_establishes_a_connection_and_so_does_data_of_the_server() {
    for configuration in CONFIGURATIONS {
        let started = || {
            let mut harness = Harness::roomy(|_| {});
            harness.syn_copy(1, 100, configuration);
            harness.web_sends(Segment::syn_ack(WEB, &client(1), 7000, 101));
            harness.wait(1);
            harness.syn_copy(1, 100, configuration);
            harness.web_sends(Segment::syn_ack(WEB, &client(1), 9000, 101));
            harness
        };
        for (number, expected) in
            [(7001, Phase::Established), (9001, Phase::Established), (8001, Phase::Opening)]
        {
            let mut harness = started();
            let ack = Segment::ack(&client(1), WEB, 101, number);
            harness.client_sends(ack, configuration);
            assert_eq!(harness.phase(1), Some(expected), "{configuration:?} {number}");
        }
        // The answer to a blind packet is no proof: a TCP that is half-open sends it, too.
        for (ack, payload, expected) in [
            (101, &b""[..], Phase::Opening),
            (100, b"banner", Phase::Opening),
            (101, b"banner", Phase::Established),
            (120, b"", Phase::Established),
        ] {
            let mut harness = started();
            harness.web_sends(Segment::ack(WEB, &client(1), 8001, ack).payload(payload));
            assert_eq!(harness.phase(1), Some(expected), "{configuration:?} {ack}");
        }
    }
}

#[test]
fn a_copy_from_an_address_that_no_client_has_is_dropped() {
    let mut harness = Harness::roomy(|_| {});
    let tag = [253, 5, 0x4e, 0x52, 3, 1, 1, 1];
    let own = ["198.51.100.10", "203.0.113.10"];
    for address in ["127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.1.1"]
        .into_iter()
        .chain(own)
    {
        let syn = Segment::syn(&format!("{address}:4000"), SERVER, 100).options(&tag);
        let frame = syn.tunnelled("203.0.113.10", "198.51.100.10");
        assert_eq!(harness.pass(Side::Outside, &frame).0, Verdict::CopyClientMartian, "{address}");
        let direct = syn.tunnelled(address, "198.51.100.10");
        assert_eq!(harness.pass(Side::Outside, &direct).0, Verdict::CopyClientMartian, "{address}");
    }
}
