//! Direct copies of gateways, and the same SYN by two ways. Scenarios show each rule once; here are
//! all combinations, and what depends on small differences in time.

use super::*;
use crate::counters::Scalar;
use crate::stage::tag::Configuration;
use crate::testing::{ethernet_frame, tunnel_in};
use crate::wire::tunnel::Format;

const SWITCH: &str = "203.0.113.10";
const OTHER_WEB: &str = "198.51.100.20";
const TUNNEL: &str = "198.51.100.9";

const CLIENT_V6: &str = "[2001:db8:c1::10]:40000";
const SERVER_V6: &str = "[2001:db8:5::10]:80";
const WEB_V6: &str = "2001:db8:a::10";
const TUNNEL_V6: &str = "2001:db8:a::9";

const CONFIGURATIONS: [Configuration; 3] = [Configuration::A, Configuration::B, Configuration::C];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tag(configuration: Configuration) -> [u8; 8] {
    [253, 5, 0x4e, 0x52, 1 | (configuration as u8) << 1, 1, 1, 1]
}

fn syn(isn: u32, configuration: Configuration) -> Segment {
    Segment::syn(CLIENT, SERVER, isn).options(&tag(configuration)).inbound()
}

/// A replica with a separate tunnel address, one web server of each family, and a second one of
/// IPv4.
fn both_families(direct: bool) -> Harness {
    Harness::with(|settings| {
        let web = settings.services[0].servers[0].clone();
        let mac = Some([2, 0, 0, 0, 0, 0x31]);
        let server = |address: &str| Server { address: address.parse().unwrap(), ..web.clone() };
        let v6 = Server { mac, ..server(WEB_V6) };
        settings.services[0].servers[0].mac = mac;
        // Its share is zero, so that it is never selected.
        settings.services[0].servers.push(Server { weight: 0, ..server(OTHER_WEB) });
        let address_v6 = "2001:db8:5::10".parse().unwrap();
        settings.services.push(Service {
            address: address_v6,
            servers: vec![v6],
            first_server: 2,
            ..settings.services[0].clone()
        });
        settings.tunnel_addresses = vec![address(TUNNEL), address(TUNNEL_V6)];
        settings.max_connections = [16, 16];
        settings.direct = direct;
    })
}

impl Harness {
    /// Passes a direct copy to the web server.
    fn direct(&mut self, syn: &Segment) -> Verdict {
        self.pass(Side::Outside, &syn.tunnelled("198.18.1.10", "198.51.100.10")).0
    }

    /// Passes a switch's copy.
    fn by_switch(&mut self, syn: &Segment) -> Verdict {
        self.pass(Side::Outside, &syn.tunnelled(SWITCH, "198.51.100.10")).0
    }

    fn later(&mut self, millis: u64) {
        self.now = self.now + Ticks::from_millis(millis);
    }

    fn direct_copies(&self) -> u64 {
        self.replica.common.counters.common.scalar(Scalar::DirectCopies).get()
    }

    fn syn_acks_left(&mut self) -> u8 {
        let found = self.replica.for_v4().connection_of(crate::testing::endpoint(CLIENT), self.now);
        found.unwrap().connection.syn_acks_left
    }
}

#[test]
fn direct_copies_are_accepted_in_every_family_format_and_configuration() {
    let families = [
        (CLIENT, SERVER, "198.18.1.10", [TUNNEL, "198.51.100.10", OTHER_WEB], "198.51.100.10:80"),
        (
            CLIENT_V6,
            SERVER_V6,
            "2001:db8:c1::10",
            [TUNNEL_V6, WEB_V6, WEB_V6],
            "[2001:db8:a::10]:80",
        ),
    ];
    for (client, server, source, destinations, web) in families {
        for destination in destinations {
            for format in Format::ALL {
                for configuration in CONFIGURATIONS {
                    let mut harness = both_families(true);
                    let syn = Segment::syn(client, server, 7).options(&tag(configuration));
                    let ends = (source, destination);
                    let tunnel = tunnel_in(format, ends, (0, 77), &syn.packet());
                    let frame = ethernet_frame(syn.macs, &tunnel);
                    let owner =
                        Replica::owner(Side::Outside, &Packet::new(HeapBuffer::new(&frame)));
                    assert_eq!(owner, Some(address(source)));
                    let (verdict, sent) = harness.pass(Side::Outside, &frame);
                    assert_eq!(verdict, Verdict::CopyAccepted, "{ends:?} {format:?}");
                    let mut plain = Segment::syn(client, web, 7).options(&[]);
                    plain.macs.0 = [2, 0, 0, 0, 0, 0x31];
                    assert_eq!(sent, Some(plain.frame()));
                    assert_eq!(harness.direct_copies(), 1);
                    // The switch's copy of the same SYN is one too many, in either order.
                    let switch = tunnel_in(Format::Ipip, (SWITCH, TUNNEL), (0, 7), &syn.packet());
                    let switch = ethernet_frame(syn.macs, &switch);
                    assert_eq!(
                        harness.pass(Side::Outside, &switch),
                        (Verdict::CopyDuplicate, None)
                    );
                    let mut harness = both_families(true);
                    assert_eq!(harness.pass(Side::Outside, &switch).0, Verdict::CopyAccepted);
                    assert_eq!(harness.pass(Side::Outside, &frame), (Verdict::CopyDuplicate, None));
                    assert_eq!(harness.direct_copies(), 0);
                }
            }
        }
    }
}

#[test]
fn what_is_no_direct_copy_is_handled_as_without_them() {
    let plain = Segment::syn(CLIENT, SERVER, 7).options(&[]);
    let tagged = syn(7, Configuration::C);
    let mut with_ack = tagged.clone();
    with_ack.flags = Flags::SYN | Flags::ACK;
    let to_client = ("198.18.1.10", "198.51.100.10");
    let cases = [
        (&plain, to_client, Verdict::ForeignTunnel),
        (&with_ack, to_client, Verdict::ForeignTunnel),
        (&plain, ("198.18.1.10", TUNNEL), Verdict::PeerNotAllowed),
        (&with_ack, ("198.18.1.10", TUNNEL), Verdict::PeerNotAllowed),
        (&plain, (SWITCH, TUNNEL), Verdict::CopyNotTagged),
        // From another address, or to nobody.
        (&tagged, ("198.18.1.11", "198.51.100.10"), Verdict::ForeignTunnel),
        (&tagged, ("198.18.1.11", TUNNEL), Verdict::PeerNotAllowed),
        (&tagged, ("198.18.1.10", "198.51.100.99"), Verdict::ForeignTunnel),
        (&tagged, ("2001:db8:c1::10", TUNNEL_V6), Verdict::PeerNotAllowed),
        (&tagged, ("2001:db8:c1::10", WEB_V6), Verdict::ForeignTunnel),
    ];
    for direct in [true, false] {
        for (segment, (from, to), expected) in cases {
            let mut harness = both_families(direct);
            let seen = harness.pass(Side::Outside, &segment.tunnelled(from, to)).0;
            assert_eq!(seen, expected, "{from} > {to}, {segment:?}");
        }
    }
    let mut harness = both_families(false);
    for (to, expected) in [(to_client.1, Verdict::ForeignTunnel), (TUNNEL, Verdict::PeerNotAllowed)]
    {
        assert_eq!(harness.pass(Side::Outside, &tagged.tunnelled(to_client.0, to)).0, expected);
    }
}

#[test]
fn a_malformed_tag_is_dropped_as_from_a_switch() {
    let mut harness = both_families(true);
    let bad = syn(7, Configuration::A).options(&[253, 5, 0x4e, 0x52, 0x81, 1, 1, 1]);
    let forbidding = syn(7, Configuration::A).options(&[253, 5, 0x4e, 0x52, 0, 1, 1, 1]);
    let with_data = syn(7, Configuration::A).payload(b"x");
    assert_eq!(harness.direct(&bad), Verdict::BadTag);
    assert_eq!(harness.direct(&forbidding), Verdict::CopyNotTagged);
    assert_eq!(harness.direct(&with_data), Verdict::CopyData);
}

#[test]
fn a_tagged_syn_of_a_known_connection_of_c_is_a_copy_and_an_untagged_one_goes_to_the_winner() {
    let mut harness = Harness::new();
    let (first, again) = (syn(7, Configuration::C), Segment::syn(CLIENT, SERVER, 7).inbound());
    assert_eq!(harness.direct(&first), Verdict::CopyAccepted);
    assert_eq!(harness.syn_acks_left(), 1);
    let stripped = Segment::syn(CLIENT, WEB, 7).options(&[]).inbound().frame();
    // The client's retransmission during the race: directly, and by the switch.
    harness.later(1000);
    let seen = harness.pass(Side::Outside, &first.tunnelled("198.18.1.10", "198.51.100.10"));
    assert_eq!(seen, (Verdict::CopyRetransmit, Some(stripped.clone())));
    assert_eq!(harness.by_switch(&first), Verdict::CopyDuplicate);
    assert_eq!(harness.syn_acks_left(), 2);
    // To the winner, as long as the gateway likes.
    for credit in [3, 4] {
        let frame = again.clone().options(&[]).tunnelled("198.18.1.10", "198.51.100.10");
        assert_eq!(
            harness.pass(Side::Outside, &frame),
            (Verdict::ToWebServer, Some(stripped.clone()))
        );
        assert_eq!(harness.syn_acks_left(), credit);
    }
    assert_eq!(harness.direct_copies(), 1, "a retransmission is not accepted a second time");
}

#[test]
fn without_direct_copies_a_tagged_syn_of_a_known_connection_of_c_goes_to_its_web_server() {
    let mut harness = Harness::with(|settings| settings.direct = false);
    let first = syn(7, Configuration::C);
    assert_eq!(harness.by_switch(&first), Verdict::CopyAccepted);
    assert_eq!(harness.direct(&first), Verdict::ToWebServer);
}

#[test]
fn a_copy_within_half_a_second_is_a_duplicate_and_a_later_one_a_retransmission() {
    for configuration in CONFIGURATIONS {
        let mut harness = Harness::new();
        let copy = syn(7, configuration);
        assert_eq!(harness.direct(&copy), Verdict::CopyAccepted);
        harness.later(490);
        assert_eq!(harness.by_switch(&copy), Verdict::CopyDuplicate);
        assert_eq!(harness.syn_acks_left(), 1, "a duplicate earns no SYN/ACK");
        // Another port of the client is another connection, another sequence number another SYN.
        let mut other = copy.clone();
        other.from.set_port(40001);
        assert_eq!(harness.direct(&other), Verdict::CopyAccepted);
        harness.later(30);
        assert_eq!(harness.by_switch(&copy), Verdict::CopyRetransmit);
        assert_eq!(harness.direct(&copy), Verdict::CopyDuplicate);
        assert_eq!(harness.syn_acks_left(), 2);
        assert_eq!(harness.direct(&syn(8, configuration)), Verdict::CopyAccepted);
        assert_eq!(harness.by_switch(&syn(8, configuration)), Verdict::CopyDuplicate);
        assert_eq!(harness.by_switch(&copy), Verdict::CopyAccepted);
    }
}

#[test]
fn a_copy_after_the_web_servers_refusal_is_another_attempt() {
    let mut harness = Harness::new();
    let copy = syn(7, Configuration::A);
    assert_eq!(harness.direct(&copy), Verdict::CopyAccepted);
    let refusal = Segment::new(WEB, CLIENT, Flags::RST | Flags::ACK, 0, 8).frame();
    assert_eq!(harness.pass(Side::Inside, &refusal).0, Verdict::FromWebServer);
    assert_eq!(harness.by_switch(&copy), Verdict::CopyRetransmit);
    assert_eq!(harness.by_switch(&copy), Verdict::CopyDuplicate);
}

#[test]
fn a_late_copy_does_not_revive_a_connection_that_the_gateway_has_reset() {
    let mut harness = Harness::new();
    let copy = syn(7, Configuration::A);
    assert_eq!(harness.direct(&copy), Verdict::CopyAccepted);
    harness.later(20);
    harness.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 8).frame());
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 8, 0).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &reset).0, Verdict::ToWebServer);
    harness.later(100);
    assert_eq!(harness.by_switch(&copy), Verdict::CopyDuplicate);
}

#[test]
fn a_later_syn_of_a_live_connection_is_given_to_the_web_server_once() {
    let mut harness = established();
    let later = syn(9000, Configuration::A);
    harness.later(100);
    assert_eq!(harness.direct(&later), Verdict::CopyNewIsn);
    assert_eq!(harness.by_switch(&later), Verdict::CopyDuplicate);
    harness.later(1000);
    assert_eq!(harness.by_switch(&later), Verdict::CopyNewIsn);
    // The web server accepts it.
    let answer = Segment::syn_ack(WEB, CLIENT, 7000, 9001).frame();
    assert_eq!(harness.pass(Side::Inside, &answer).0, Verdict::FromWebServer);
    assert_eq!(harness.direct(&later), Verdict::CopyDuplicate);
}

#[test]
fn a_copy_that_did_not_reach_its_web_server_has_no_duplicate() {
    // The MAC address of the selected web server is not known, and it has its share of the queue.
    let mut harness = Harness::with(|settings| {
        settings.tunnel_addresses = vec![address(TUNNEL)];
        settings.max_connections = [256, 1];
        settings.busy_connections = 256;
    });
    let to_tunnel = |harness: &mut Harness, port: u16| {
        let mut copy = syn(7, Configuration::B);
        copy.from.set_port(port);
        harness.pass(Side::Outside, &copy.tunnelled("198.18.1.10", TUNNEL)).0
    };
    for port in 1..=32 {
        assert_eq!(to_tunnel(&mut harness, port), Verdict::Pending);
        assert_eq!(to_tunnel(&mut harness, port), Verdict::CopyDuplicate);
    }
    for _ in 0..2 {
        assert_eq!(to_tunnel(&mut harness, 33), Verdict::NeighbourUnresolved);
    }
}
