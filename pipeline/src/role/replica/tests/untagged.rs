//! A client that connects to a web server by its own address, from a port that has raced lately:
//! what no gateway has tagged passes untouched (op 616).

use super::hostile::{CONFIGURATIONS, client};
use super::*;
use crate::stage::tag::Configuration;

/// How the connection of the entry went.
#[derive(Clone, Copy, Debug)]
enum Earlier {
    Lost,
    Closed,
    Reset,
    Quiet,
}

fn after(earlier: Earlier, configuration: Configuration) -> Harness {
    let mut harness = Harness::roomy(|_| {});
    if let Earlier::Lost = earlier {
        harness.syn_copy(1, 100, configuration);
        harness.web_sends(Segment::syn_ack(WEB, &client(1), 500, 101));
        harness.client_sends(Segment::new(&client(1), WEB, Flags::RST, 101, 0), configuration);
        return harness;
    }
    harness.connection(1, configuration);
    let end =
        |from: &str, to: &str, flags, sequence, ack| Segment::new(from, to, flags, sequence, ack);
    let fin = Flags::FIN | Flags::ACK;
    match earlier {
        Earlier::Closed => {
            harness.client_sends(end(&client(1), WEB, fin, 101, 501), configuration);
            harness.web_sends(end(WEB, &client(1), fin, 501, 102));
        }
        Earlier::Reset => {
            harness.client_sends(end(&client(1), WEB, Flags::RST, 101, 0), configuration);
        }
        Earlier::Quiet | Earlier::Lost => harness.wait(10),
    }
    harness
}

#[test]
fn a_connection_to_the_web_servers_own_address_is_untouched() {
    for configuration in CONFIGURATIONS {
        for earlier in [Earlier::Lost, Earlier::Closed, Earlier::Reset, Earlier::Quiet] {
            let mut harness = after(earlier, configuration);
            harness.wait(1);
            let mut untouched = |side, segment: Segment| {
                let frame = match side {
                    Side::Outside => segment.inbound().frame(),
                    Side::Inside => segment.frame(),
                };
                let seen = harness.pass(side, &frame);
                let expected = (Verdict::NoEntry, Some(frame));
                assert_eq!(seen, expected, "{configuration:?} {earlier:?}");
            };
            for _ in 0..2 {
                untouched(Side::Outside, Segment::syn(&client(1), WEB, 50_000));
            }
            for _ in 0..3 {
                untouched(Side::Inside, Segment::syn_ack(WEB, &client(1), 90_000, 50_001));
            }
            untouched(Side::Outside, Segment::ack(&client(1), WEB, 50_001, 90_001));
            untouched(Side::Inside, Segment::ack(WEB, &client(1), 90_001, 50_001).payload(b"own"));
        }
    }
}

#[test]
fn a_plain_syn_does_not_end_a_connection_that_its_web_server_keeps() {
    for configuration in CONFIGURATIONS {
        let mut harness = after(Earlier::Quiet, configuration);
        let syn = Segment::syn(&client(1), WEB, 50_000).inbound().frame();
        assert_eq!(harness.pass(Side::Outside, &syn).0, Verdict::NoEntry);
        // A challenge ACK, in the form of the connection.
        let challenge = Segment::ack(WEB, &client(1), 501, 101);
        assert_eq!(harness.web_sends(challenge), Verdict::FromWebServer);
        let data = Segment::ack(&client(1), WEB, 101, 501).payload(b"GET /");
        assert_eq!(harness.client_sends(data, configuration), Verdict::ToWebServer);
        assert_eq!(harness.phase(1), Some(Phase::Established));
    }
}

#[test]
fn a_refusal_of_an_untagged_syn_is_untouched() {
    let mut harness = after(Earlier::Lost, Configuration::B);
    let syn = Segment::syn(&client(1), WEB, 50_000).inbound().frame();
    harness.pass(Side::Outside, &syn);
    let refusal = Segment::new(WEB, &client(1), Flags::RST | Flags::ACK, 0, 50_001).frame();
    assert_eq!(harness.pass(Side::Inside, &refusal), (Verdict::NoEntry, Some(refusal.clone())));
}

#[test]
fn a_gateways_plain_syn_to_a_winner_keeps_its_form() {
    // The client has just talked to the winner, and begins anew from the same port.
    let mut harness = Harness::roomy(|_| {});
    harness.connection(1, Configuration::B);
    harness.wait(1);
    let syn = Segment::syn(&client(1), WEB, 9000);
    assert_eq!(harness.client_sends(syn, Configuration::B), Verdict::ToWebServer);
    let answer = Segment::syn_ack(WEB, &client(1), 7000, 9001);
    let tunnelled = answer.tunnelled("203.0.113.10", "198.18.1.10");
    let seen = harness.pass(Side::Inside, &answer.frame());
    assert_eq!(seen, (Verdict::FromWebServer, Some(tunnelled)));
    let ack = Segment::ack(&client(1), WEB, 9001, 7001);
    assert_eq!(harness.client_sends(ack, Configuration::B), Verdict::ToWebServer);
    assert_eq!(harness.phase(1), Some(Phase::Established));
}
