//! Connections whose entry is lost, here or at the winner's appliance, and the end of a gateway.

use super::rig::{Configuration, Hosts, ISN, Rig, V4_HOSTS, V6_HOSTS, host};
use super::*;
use crate::counters::Generated;
use tcp::Flags;

const ACK: u8 = Flags::ACK;
const RST: u8 = Flags::RST;
/// What the replica sends next, and what it expects of the client.
const NEXT: u32 = 9000;
const EXPECTED: u32 = 4000;

impl<M: Mode> Rig<M> {
    /// A gateway without connections whose service lists its replicas.
    fn listed(hosts: &'static Hosts) -> Self {
        Self::with_settings(hosts, Policy::default(), Keys::default(), |settings| {
            let prefix =
                format!("{}/{}", host(hosts.replicas[0]), [24, 64][hosts.version as usize]);
            let net: ipnet::IpNet = prefix.parse().unwrap();
            settings.services[0].allowed_replicas = AllowList::only([net.trunc()]);
        })
    }

    /// Returns a segment of replica 0 in the form of the configuration's data, but plain under B.
    fn stray_of_replica(&self, flags: u8, sequence: u32, ack_number: u32) -> Vec<u8> {
        let Hosts { client, server, replicas, .. } = self.hosts;
        let is_c = M::CONFIGURATION == Configuration::C;
        let from = if is_c { server } else { replicas[0] };
        let segment = Segment::new(from, client, flags, sequence, ack_number).inbound();
        if is_c { segment.tunnelled(&host(replicas[0]), &host(client)) } else { segment.frame() }
    }

    fn plain_of_replica(&self, flags: u8, sequence: u32, ack_number: u32) -> Vec<u8> {
        let Hosts { client, replicas, .. } = self.hosts;
        Segment::new(replicas[0], client, flags, sequence, ack_number).inbound().frame()
    }

    fn client_sends(
        &mut self,
        to: &str,
        flags: u8,
        sequence: u32,
        ack_number: u32,
    ) -> (Verdict, super::rig::Seen) {
        let frame = Segment::new(self.hosts.client, to, flags, sequence, ack_number).frame();
        let seen = self.burst(Side::Inside, &[frame]);
        (seen.verdicts[0], seen)
    }

    fn generated(&self, what: Generated) -> u64 {
        self.gateway.counters().generated[what as usize].get()
    }

    /// A gateway with an open connection that replica 0 has won, at [`NEXT`] and [`EXPECTED`].
    fn won(hosts: &'static Hosts) -> Self {
        let mut rig = Self::listed(hosts);
        rig.send_syn(EXPECTED - 1);
        assert_eq!(rig.receive(rig.answer(0, EXPECTED)).0, Verdict::ReplicaWon);
        let server = hosts.server;
        assert_eq!(rig.client_sends(server, ACK, EXPECTED, 501).0, Verdict::ToReplica);
        assert_eq!(rig.client_sends(server, ACK, EXPECTED, NEXT).0, Verdict::ToReplica);
        rig
    }
}

/// Returns ends, flags and sequence number of a plain frame.
fn read<F: Family>(frame: &[u8]) -> (String, String, Flags, u32) {
    let packet = Packet::new(HeapBuffer::new(frame));
    assert!(packet.ip_checksum_ok() && packet.tcp_checksum_ok::<F>());
    let (from, to) = (packet.source::<F>(), packet.destination::<F>());
    let text = |endpoint: Endpoint<F>| std::net::SocketAddr::from(endpoint).to_string();
    (text(from), text(to), tcp::flags(packet.tcp()), tcp::sequence(packet.tcp()))
}

fn is_reset(hosts: &Hosts, frame: &[u8], from: &str, to: &str, sequence: u32) {
    let seen = match hosts.version {
        Version::V4 => read::<V4>(frame),
        Version::V6 => read::<V6>(frame),
    };
    assert_eq!(seen, (from.to_owned(), to.to_owned(), Flags(RST), sequence));
}

/// What is in a tunnel of the client to replica 0.
fn inner(hosts: &Hosts, frame: &[u8]) -> Vec<u8> {
    let ip = [20, 40][hosts.version as usize];
    let mut inner = frame[..14].to_vec();
    inner.extend(&frame[14 + ip..]);
    inner
}

fn both_ends_are_told<M: Mode>(hosts: &'static Hosts) {
    let mut rig = Rig::<M>::listed(hosts);
    let Hosts { client, server, replicas, .. } = *hosts;
    let stray = rig.stray_of_replica(ACK, NEXT, EXPECTED);
    let (verdict, seen) = rig.receive(stray.clone());
    let forwarded = if M::DATA_IN_TUNNELS { Verdict::ForeignTunnel } else { Verdict::NoEntry };
    assert_eq!(verdict, forwarded);
    // The client is asked, by a number that it does not expect next; the packet goes on.
    assert_eq!((seen.inside.len(), seen.outside.len()), (2, 0));
    is_reset(hosts, &seen.inside[0], server, client, NEXT + 2);
    assert_eq!(seen.inside[1], stray);
    // It answers by what it would send next, and what it expects.
    let (verdict, seen) = rig.client_sends(server, ACK, EXPECTED + 5, NEXT);
    assert_eq!(verdict, Verdict::ConnectionLost);
    is_reset(hosts, &seen.inside[0], server, client, NEXT);
    let to_replica = match M::DATA_IN_TUNNELS {
        true => inner(hosts, &seen.outside[0]),
        false => seen.outside[0].clone(),
    };
    let to = if M::DATA_IN_TUNNELS { server } else { replicas[0] };
    is_reset(hosts, &to_replica, client, to, EXPECTED);
    assert_eq!(seen.outside.len(), 2, "and its packet goes on to the server");
    assert_eq!(rig.generated(Generated::LostReset), 2);
    // An answer counts once.
    assert_eq!(rig.client_sends(server, ACK, EXPECTED + 5, NEXT).0, Verdict::NoEntry);
}

#[test]
fn a_client_that_has_the_connection_is_told_and_its_replica_too() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        both_ends_are_told::<A>(hosts);
        both_ends_are_told::<C>(hosts);
    }
}

fn a_connection_with_the_origin_is_safe<M: Mode>(hosts: &'static Hosts) {
    let mut rig = Rig::<M>::listed(hosts);
    let server = hosts.server;
    rig.receive(rig.stray_of_replica(ACK, NEXT, EXPECTED));
    for (sequence, ack_number) in [
        (EXPECTED, NEXT + 2),
        (EXPECTED, NEXT.wrapping_sub(1)),
        (EXPECTED - 1, NEXT),
        (EXPECTED + (1 << 16), NEXT),
    ] {
        let (verdict, seen) = rig.client_sends(server, ACK, sequence, ack_number);
        assert_eq!(verdict, Verdict::NoEntry, "{sequence} {ack_number}");
        assert!(seen.inside.is_empty() && seen.outside.len() == 1);
    }
    let wrong = Flags::ACK | Flags::FIN;
    assert_eq!(rig.client_sends(server, wrong, EXPECTED, NEXT).0, Verdict::NoEntry);
    // Too late.
    rig.wait(5_001);
    assert_eq!(rig.client_sends(server, ACK, EXPECTED, NEXT).0, Verdict::NoEntry);
    assert_eq!(rig.generated(Generated::LostReset), 0);
}

#[test]
fn a_client_whose_connection_has_other_numbers_is_left_alone() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        a_connection_with_the_origin_is_safe::<A>(hosts);
        a_connection_with_the_origin_is_safe::<C>(hosts);
    }
}

fn not_everything_is_a_reason<M: Mode>(hosts: &'static Hosts) {
    let mut rig = Rig::<M>::listed(hosts);
    for flags in [RST, RST | ACK, Flags::SYN, Flags::SYN | ACK, 0] {
        rig.receive(rig.stray_of_replica(flags, NEXT, EXPECTED));
    }
    assert_eq!(rig.generated(Generated::Challenge), 0);
    // One question at a time.
    for _ in 0..3 {
        rig.receive(rig.stray_of_replica(ACK, NEXT, EXPECTED));
    }
    assert_eq!(rig.generated(Generated::Challenge), 1);
    rig.wait(500);
    rig.receive(rig.stray_of_replica(ACK | Flags::FIN, NEXT, EXPECTED));
    assert_eq!(rig.generated(Generated::Challenge), 2);
    // While there is an entry, nobody is asked.
    rig.wait(500);
    rig.send_syn(ISN);
    rig.receive(rig.stray_of_replica(ACK, NEXT, EXPECTED));
    assert_eq!(rig.generated(Generated::Challenge), 2);
}

#[test]
fn a_client_is_asked_only_about_a_segment_of_a_connection_without_an_entry() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        not_everything_is_a_reason::<A>(hosts);
        not_everything_is_a_reason::<C>(hosts);
    }
}

#[test]
fn a_worker_asks_at_most_a_thousand_clients_a_second() {
    let mut rig = Rig::<A>::listed(&V4_HOSTS);
    let frame = |rig: &Rig<A>, port: u16| {
        let mut frame = rig.stray_of_replica(ACK, NEXT, EXPECTED);
        // A wrong checksum is no reason not to ask.
        frame[36..38].copy_from_slice(&port.to_be_bytes());
        frame
    };
    (1..=3000).for_each(|port| _ = rig.receive(frame(&rig, port)));
    // Those whose places are taken are not asked either.
    let asked = rig.generated(Generated::Challenge);
    assert!((900..=1000).contains(&asked), "{asked}");
}

#[test]
fn of_several_services_each_is_asked_about_in_turn() {
    let mut rig = Rig::<A>::with_settings(&V4_HOSTS, Policy::default(), Keys::default(), |s| {
        s.services[0].allowed_replicas = AllowList::only(["198.51.100.0/24".parse().unwrap()]);
        let of = |address: &str, ports: &[u16]| Service {
            scope: Scope::Prefix(address.parse().unwrap()),
            ports: ports.to_vec(),
            ..s.services[0].clone()
        };
        let more =
            [of("203.0.113.0/24", &[80]), of("203.0.113.11/32", &[81, 82]), of("::1/128", &[80])];
        s.services.extend(more);
    });
    let mut asked = Vec::new();
    for _ in 0..4 {
        let (_, seen) = rig.receive(rig.stray_of_replica(ACK, NEXT, EXPECTED));
        asked.push(read::<V4>(&seen.inside[0]).0);
        rig.wait(500);
    }
    let expected = ["203.0.113.10:80", "203.0.113.11:81", "203.0.113.11:82", "203.0.113.10:80"];
    assert_eq!(asked, expected);
}

#[test]
fn services_whose_replicas_are_not_listed_are_not_asked_about_under_a() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, Policy::default());
    rig.receive(rig.stray_of_replica(ACK, NEXT, EXPECTED));
    assert_eq!(rig.generated(Generated::Challenge), 0);
}

#[test]
fn under_b_the_winners_own_reset_is_the_servers() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        let mut rig = Rig::<B>::won(hosts);
        let far = rig.plain_of_replica(RST, NEXT + (1 << 30), 0);
        assert_eq!(rig.receive(far).0, Verdict::FromOther);
        let (verdict, seen) = rig.receive(rig.plain_of_replica(RST, NEXT, 0));
        assert_eq!(verdict, Verdict::FromReplica);
        is_reset(hosts, &seen.inside[0], hosts.server, hosts.client, NEXT);
        assert_eq!(rig.client_sends(hosts.server, ACK, EXPECTED, NEXT).0, Verdict::ToReplica);
    }
}

#[test]
fn under_b_the_clients_reset_to_the_winner_tells_the_client() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        let mut rig = Rig::<B>::won(hosts);
        let replica = hosts.replicas[0];
        for number in [EXPECTED - 1, EXPECTED + 1] {
            assert_eq!(rig.client_sends(replica, RST, number, 0).0, Verdict::OtherServer);
        }
        let (verdict, seen) = rig.client_sends(replica, RST, EXPECTED, 0);
        assert_eq!(verdict, Verdict::ConnectionLost);
        is_reset(hosts, &seen.inside[0], hosts.server, hosts.client, NEXT);
        is_reset(hosts, &seen.outside[0], hosts.client, replica, EXPECTED);
        // Once.
        assert_eq!(rig.client_sends(replica, RST, EXPECTED, 0).0, Verdict::OtherServer);
    }
}

#[test]
fn under_c_the_winners_plain_segment_resets_both_ends() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        let mut rig = Rig::<C>::won(hosts);
        for (sequence, ack_number) in [(NEXT + 1, EXPECTED), (NEXT, EXPECTED - 1), (0, EXPECTED)] {
            let frame = rig.plain_of_replica(ACK, sequence, ack_number);
            assert_eq!(rig.receive(frame).0, Verdict::FromOther);
        }
        let frame = rig.plain_of_replica(ACK, NEXT, EXPECTED);
        let (verdict, seen) = rig.receive(frame.clone());
        assert_eq!(verdict, Verdict::ConnectionLost);
        is_reset(hosts, &seen.inside[0], hosts.server, hosts.client, NEXT);
        assert_eq!(seen.inside[1], frame);
        is_reset(hosts, &seen.outside[0], hosts.client, hosts.replicas[0], EXPECTED);
    }
}

fn a_goodbye_resets_both_ends<M: Mode>(hosts: &'static Hosts) {
    let mut rig = Rig::<M>::won(hosts);
    rig.other_race(7);
    let mut sent = [Vec::new(), Vec::new()];
    loop {
        let mut out = Output::new(1);
        let mut context = Context { now: rig.now, pool: &mut rig.pool, out: &mut out };
        rig.gateway.say_goodbye(&mut context);
        let frames = Side::ALL.map(|side| out.side(side).split_off(0));
        if frames.iter().all(Vec::is_empty) {
            break;
        }
        for (sent, frames) in sent.iter_mut().zip(frames) {
            sent.extend(frames.iter().map(|buffer| buffer.frame().to_vec()));
        }
    }
    let Hosts { client, server, replicas, .. } = *hosts;
    assert_eq!(sent.each_ref().map(Vec::len), [1, 1], "a race has nobody to tell");
    is_reset(hosts, &sent[0][0], server, client, NEXT);
    let (to_replica, to) = match M::CONFIGURATION {
        Configuration::C => (inner(hosts, &sent[1][0]), server),
        Configuration::A | Configuration::B => (sent[1][0].clone(), replicas[0]),
    };
    is_reset(hosts, &to_replica, client, to, EXPECTED);
    // By the Ethernet addresses of the client's SYN.
    let syn = rig.syn(ISN).frame();
    assert_eq!(sent[1][0][..12], syn[..12]);
    assert_eq!((&sent[0][0][..6], &sent[0][0][6..12]), (&syn[6..12], &syn[..6]));
}

#[test]
fn a_gateway_that_ends_tells_both_ends_of_what_replicas_have_won() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        a_goodbye_resets_both_ends::<A>(hosts);
        a_goodbye_resets_both_ends::<B>(hosts);
        a_goodbye_resets_both_ends::<C>(hosts);
    }
}
