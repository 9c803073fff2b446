//! Who opens, keeps and ends a connection that a replica has won, and whose packets are its.

use super::rig::{Configuration, Hosts, ISN, Rig, V4_HOSTS, V6_HOSTS, direct, host};
use super::*;
use crate::counters::Sighting;
use crate::memory::Event;
use tcp::Flags;

/// The sequence number of servers' SYN/ACKs.
const ISS: u32 = 500;
const RST: u8 = Flags::RST;
const FIN: u8 = Flags::FIN | Flags::ACK;
const ACK: u8 = Flags::ACK;
/// A number that is far from every other.
const FAR: u32 = 0x8000_0000;

fn in_all_configurations(test: impl Tests) {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        test.run::<A>(hosts);
        test.run::<B>(hosts);
        test.run::<C>(hosts);
    }
}

/// A test that runs in every configuration.
trait Tests {
    fn run<M: Mode>(&self, hosts: &'static Hosts);
}

/// Defines a test that runs in every configuration and family.
macro_rules! in_all {
    ($(#[$meta:meta])* fn $name:ident<M>($hosts:ident) $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            struct Body;
            impl Tests for Body {
                fn run<M: Mode>(&self, $hosts: &'static Hosts) $body
            }
            in_all_configurations(Body);
        }
    };
}

impl<M: Mode> Rig<M> {
    /// A gateway with a connection that replica 0 has won and the client has not acknowledged.
    fn half_open(hosts: &'static Hosts) -> Self {
        let mut rig = Self::new(hosts, direct());
        rig.send_syn(ISN);
        assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
        rig
    }

    /// A gateway with an open connection that replica 0 has won.
    fn open(hosts: &'static Hosts) -> Self {
        let mut rig = Self::half_open(hosts);
        assert_eq!(rig.data(), Verdict::ToReplica);
        rig.reported();
        rig
    }

    fn client(&mut self, flags: u8, sequence: u32, ack_number: u32) -> Verdict {
        let Hosts { client, server, .. } = self.hosts;
        let frame = Segment::new(client, server, flags, sequence, ack_number).frame();
        self.burst(Side::Inside, &[frame]).verdicts[0]
    }

    /// Returns a segment of replica 0 in the form of the configuration's data.
    fn of_replica(&self, flags: u8, sequence: u32, ack_number: u32) -> Vec<u8> {
        let Hosts { client, server, replicas, .. } = self.hosts;
        let from = if M::CONFIGURATION == Configuration::A { replicas[0] } else { server };
        let segment = Segment::new(from, client, flags, sequence, ack_number).inbound();
        match M::CONFIGURATION {
            Configuration::C => segment.tunnelled(&host(replicas[0]), &host(client)),
            Configuration::A | Configuration::B => segment.frame(),
        }
    }

    fn replica(&mut self, flags: u8, sequence: u32, ack_number: u32) -> Verdict {
        let frame = self.of_replica(flags, sequence, ack_number);
        self.receive(frame).0
    }

    fn plain(&mut self, from: &str, flags: u8, sequence: u32, ack_number: u32) -> Verdict {
        let segment = Segment::new(from, self.hosts.client, flags, sequence, ack_number);
        let frame = segment.inbound().frame();
        let (verdict, seen) = self.receive(frame.clone());
        if verdict.fate() == crate::verdict::Fate::Forwarded {
            assert_eq!(seen.inside, [frame], "{verdict:?}: it passes untouched");
        }
        verdict
    }

    /// Returns the state of the only connection.
    fn phase(&self) -> Phase {
        let count = |phase| match self.hosts.version {
            Version::V4 => self.gateway.v4.flows.count(phase),
            Version::V6 => self.gateway.v6.flows.count(phase),
        };
        let all: Vec<_> = Phase::ALL.iter().filter(|&&phase| count(phase) > 0).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        *all[0]
    }

    fn ends_ignored(&self) -> u64 {
        self.scalar(Scalar::EndsIgnored)
    }
}

in_all! {
    /// Whoever had the endpoint before does not choose the server of whoever has it now.
    fn traffic_from_the_outside_does_not_keep_a_new_syn_from_racing<M>(hosts) {
        let mut rig = Rig::<M>::open(hosts);
        for _ in 0..120 {
            rig.wait(60_000);
            rig.replica(FIN ^ Flags::FIN, ISS + 1, ISN + 1);
            // Under B the server's data is not looked up; a FIN is, and so is a SYN/ACK.
            rig.receive_answer(0);
        }
        assert_eq!(rig.send_syn(7 * ISN).0, Verdict::TaggedNewIsn);
        assert_eq!(rig.phase(), Phase::Racing);
    }
}

in_all! {
    fn a_new_syn_goes_to_the_winner_while_the_client_was_heard_lately<M>(hosts) {
        let mut rig = Rig::<M>::open(hosts);
        rig.wait(60_000);
        rig.data();
        rig.wait(3_500);
        assert_eq!(rig.send_syn(7 * ISN).0, Verdict::SynToWinner);
        assert_eq!(rig.phase(), Phase::Replica);
        // The SYN itself is no sign that the connection lives.
        rig.wait(3_500);
        assert_eq!(rig.send_syn(7 * ISN).0, Verdict::TaggedNewIsn);
    }
}

in_all! {
    fn the_winners_refusal_of_a_new_syn_ends_the_connection<M>(hosts) {
        let mut rig = Rig::<M>::open(hosts);
        rig.client(ACK, ISN + 1, 1 << 30);
        rig.send_syn(FAR);
        rig.replica(RST | ACK, 0, 7);
        assert_eq!(rig.phase(), Phase::Replica);
        rig.replica(RST | ACK, 0, FAR + 1);
        assert_eq!(rig.phase(), Phase::Reset);
        assert_eq!(rig.send_syn(FAR).0, Verdict::TaggedNewIsn);
    }
}

in_all! {
    fn an_acknowledgement_of_the_client_gives_the_race_to_the_origin<M>(hosts) {
        let mut rig = Rig::<M>::new(hosts, direct());
        rig.send_syn(ISN);
        let mut damaged = Segment::ack(hosts.client, hosts.server, ISN + 1, 9).frame();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert_eq!(rig.burst(Side::Inside, &[damaged]).verdicts, [Verdict::RaceUndecided]);
        // Neither does another connection's segment, nor one that acknowledges nothing.
        let strays = [(ACK, ISN), (ACK, FAR), (0, ISN + 1), (RST | ACK, ISN + 1), (RST, ISN + 1)];
        for (flags, sequence) in strays {
            assert_eq!(rig.client(flags, sequence, 9), Verdict::RaceUndecided);
        }
        assert_eq!(rig.phase(), Phase::Racing);
        assert_eq!(rig.client(ACK, ISN + 1, 9), Verdict::AnsweredElsewhere);
        assert_eq!(rig.receive_answer(0).0, Verdict::LoserReset);
        assert_eq!(rig.data(), Verdict::WithOrigin);
    }
}

in_all! {
    fn a_half_open_connection_lives_as_long_as_a_race<M>(hosts) {
        let mut rig = Rig::<M>::half_open(hosts);
        for _ in 0..3 {
            rig.wait(10_000);
            // What the server sends does not renew it.
            rig.replica(ACK, ISS + 1, ISN + 1);
            rig.receive_answer(0);
        }
        assert_eq!(rig.phase(), Phase::HalfOpen);
        rig.wait(10_000);
        assert_eq!(rig.data(), Verdict::NoEntry);
    }
}

in_all! {
    fn the_clients_acknowledgement_opens_a_connection<M>(hosts) {
        let mut rig = Rig::<M>::half_open(hosts);
        let strays = [(ACK, FAR), (0, ISS + 1), (RST | ACK, FAR)];
        for (flags, number) in strays {
            assert_eq!(rig.client(flags, FAR, number), Verdict::ToReplica);
            assert_eq!(rig.phase(), Phase::HalfOpen);
        }
        rig.client(ACK, ISN + 1, ISS + 1);
        assert_eq!(rig.phase(), Phase::Replica);
        rig.wait(7_000_000);
        assert_eq!(rig.data(), Verdict::ToReplica);
    }
}

in_all! {
    /// A server with SYN cookies, or a load balancer behind the replica's address: the client has
    /// accepted the first SYN/ACK, or the second.
    fn either_number_opens_a_connection_whose_winner_has_answered_with_two<M>(hosts) {
        for number in [ISS + 1, FAR + 1] {
            let mut rig = Rig::<M>::half_open(hosts);
            let mut again = Segment::syn_ack(hosts.replicas[0], hosts.client, FAR, ISN + 1);
            let again = match M::CONFIGURATION {
                Configuration::A => again.frame(),
                Configuration::B => again.tunnelled(&host(hosts.server), &host(hosts.client)),
                Configuration::C => {
                    again.from = crate::testing::socket(hosts.server);
                    again.tunnelled(&host(hosts.replicas[0]), &host(hosts.client))
                }
            };
            assert_eq!(rig.receive(again).0, Verdict::SynAckRetransmit);
            rig.client(ACK, ISN + 1, number);
            assert_eq!(rig.phase(), Phase::Replica, "{number}");
        }
    }
}

in_all! {
    fn half_open_connections_are_evicted_before_any_other_is_refused<M>(hosts) {
        let mut rig = Rig::<M>::with_settings(hosts, direct(), Keys::default(), |settings| {
            settings.max_connections = [4; 2];
        });
        for port in 1..20 {
            assert_eq!(rig.other_race(port).0, Verdict::Tagged);
        }
        rig.send_syn(ISN);
        rig.receive_answer(0);
        rig.data();
        for port in 20..40 {
            assert_eq!(rig.other_race(port).0, Verdict::Tagged);
        }
        assert_eq!(rig.data(), Verdict::ToReplica);
    }
}

in_all! {
    /// The second comes in a table that is full of connections with a forged RST.
    fn a_forged_reset_does_not_evict_a_connection_before_a_race<M>(hosts) {
        let mut rig = Rig::<M>::with_settings(hosts, direct(), Keys::default(), |settings| {
            settings.max_connections = [4; 2];
        });
        rig.send_syn(ISN);
        rig.receive_answer(0);
        rig.data();
        rig.replica(RST, ISS + 1, 0);
        for port in 1..20 {
            assert_eq!(rig.other_race(port).0, Verdict::Tagged);
        }
        assert_eq!(rig.data(), Verdict::ToReplica);
    }
}

in_all! {
    fn a_reset_counts_by_its_number_and_checksum<M>(hosts) {
        let mut rig = Rig::<M>::open(hosts);
        assert_eq!(rig.client(ACK, ISN + 20_000, ISS + 50_000), Verdict::ToReplica);
        for sequence in [ISS + 50_000 + (1 << 20), FAR, 0xfff0_0000] {
            assert_eq!(rig.replica(RST, sequence, 0), Verdict::FromReplica);
        }
        let mut damaged = rig.of_replica(RST, ISS + 50_000, 0);
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert_eq!(rig.receive(damaged).0, Verdict::FromReplica);
        assert_eq!((rig.phase(), rig.ends_ignored()), (Phase::Replica, 4));
        // From the inside likewise.
        for sequence in [ISN + (1 << 21), FAR] {
            assert_eq!(rig.client(RST, sequence, 0), Verdict::ToReplica);
        }
        assert_eq!((rig.phase(), rig.ends_ignored()), (Phase::Replica, 6));
        let mut inside = Rig::<M>::open(hosts);
        assert_eq!(inside.client(RST, ISN + 1, 0), Verdict::ToReplica);
        assert_eq!(inside.phase(), Phase::Reset);
        assert_eq!(rig.replica(RST, ISS + 50_007, 0), Verdict::FromReplica);
        assert_eq!((rig.phase(), rig.ends_ignored()), (Phase::Reset, 6));
    }
}

in_all! {
    fn only_the_side_that_a_reset_is_said_to_be_of_takes_it_back<M>(hosts) {
        // The client has ended it; a host outside would like to keep it.
        let mut rig = Rig::<M>::open(hosts);
        rig.client(RST, ISN + 1, 0);
        for _ in 0..3 {
            rig.wait(10_000);
            rig.replica(ACK, ISS + 1, ISN + 1);
            assert_eq!(rig.phase(), Phase::Reset);
        }
        rig.wait(10_000);
        rig.data();
        assert_eq!(rig.phase(), Phase::Replica);
        // The server's word counts for its own; under B it cannot be heard, and the client's does.
        rig.replica(RST, ISS + 1, 0);
        rig.wait(2_000);
        rig.data();
        rig.replica(ACK, ISS + 1, ISN + 1);
        assert_eq!(rig.phase(), Phase::Reset, "segments may have been under way");
        rig.wait(2_000);
        rig.data();
        assert_eq!(rig.phase() == Phase::Replica, M::CONFIGURATION == Configuration::B);
        rig.replica(ACK, ISS + 1, ISN + 1);
        assert_eq!(rig.phase(), Phase::Replica);
    }
}

in_all! {
    fn a_half_closed_connection_lasts_four_minutes_without_traffic<M>(hosts) {
        let mut rig = Rig::<M>::open(hosts);
        rig.replica(FIN, ISS + 1, ISN + 1);
        assert_eq!(rig.phase(), Phase::HalfClosed);
        for _ in 0..3 {
            rig.wait(239_000);
            assert_eq!(rig.data(), Verdict::ToReplica);
        }
        rig.wait(240_000);
        assert_eq!(rig.data(), Verdict::NoEntry);
    }
}

in_all! {
    fn both_fins_close_a_connection_for_good<M>(hosts) {
        let mut rig = Rig::<M>::open(hosts);
        rig.client(FIN, ISN + 1, ISS + 1);
        rig.replica(FIN, ISS + 1, ISN + 2);
        assert_eq!(rig.phase(), Phase::Closed);
        rig.wait(10_000);
        rig.client(RST, ISN + 2, 0);
        rig.wait(10_000);
        rig.data();
        assert_eq!(rig.phase(), Phase::Closed);
        assert_eq!(rig.send_syn(7 * ISN).0, Verdict::TaggedNewIsn);
    }
}

in_all! {
    /// A client must not have a replica distrusted by FINs that the replica ignores.
    fn a_fin_that_the_replica_ignores_is_not_reported<M>(hosts) {
        let mut rig = Rig::<M>::open(hosts);
        rig.client(FIN, FAR, ISS + 1);
        assert_eq!((rig.reported().len(), rig.phase()), (0, Phase::Replica));
        rig.client(FIN, ISN + 1, ISS + 1);
        let ended = rig.reported();
        assert!(matches!(ended[0].event, Event::Ended { by_replica: false, .. }), "{ended:?}");
    }
}

/// Returns a replica's answer from this address, in the configuration's form.
fn answer_from<M: Mode>(hosts: &Hosts, address: &str) -> Vec<u8> {
    let Hosts { client, server, .. } = hosts;
    let endpoint =
        if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") };
    match M::CONFIGURATION {
        Configuration::A => Segment::syn_ack(&endpoint, client, ISS, ISN + 1).frame(),
        Configuration::B => Segment::syn_ack(&endpoint, client, ISS, ISN + 1)
            .tunnelled(&host(server), &host(client)),
        Configuration::C => {
            Segment::syn_ack(server, client, ISS, ISN + 1).tunnelled(address, &host(client))
        }
    }
}

in_all! {
    fn an_address_that_no_replica_can_have_does_not_win<M>(hosts) {
        let martians: [&str; 5] = match hosts.version {
            Version::V4 => ["224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0", "198.18.1.10"],
            Version::V6 => ["ff02::1", "::", "::1", "::ffff:198.51.100.10", "2001:db8:1::10"],
        };
        let mut rig = Rig::<M>::new(hosts, direct());
        rig.send_syn(ISN);
        for martian in martians {
            let verdict = rig.receive(answer_from::<M>(hosts, martian)).0;
            // A plain one is another connection's.
            let expected = match M::CONFIGURATION {
                Configuration::A => Verdict::FromOther,
                Configuration::B | Configuration::C => Verdict::ReplicaNotAllowed,
            };
            assert_eq!(verdict, expected, "{martian}");
        }
        assert_eq!(rig.phase(), Phase::Racing);
        assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
    }
}

in_all! {
    /// One client port, many peers (nmap, BitTorrent, libp2p): all of them answer.
    fn plain_packets_of_other_peers_pass<M>(hosts) {
        let peers = match hosts.version {
            Version::V4 => ["192.0.2.1:80", "192.0.2.2:4001", "203.0.113.10:22"],
            Version::V6 => ["[2001:db8:9::1]:80", "[2001:db8:9::2]:4001", "[2001:db8:2::10]:22"],
        };
        let mut rig = Rig::<M>::new(hosts, direct());
        rig.send_syn(ISN);
        for won in [false, true] {
            if won {
                assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
            }
            let other = if won { Verdict::FromOther } else { Verdict::RaceUndecided };
            // Under B plain data is not looked up.
            let data = if M::REPLIES_NEED_LOOKUP { other } else { Verdict::Passed };
            for peer in peers {
                let syn_ack = Flags::SYN | ACK;
                assert_eq!(rig.plain(peer, syn_ack, ISS, FAR + 1), Verdict::FromOther);
                assert_eq!(rig.plain(peer, ACK, ISS, FAR + 1), data);
                assert_eq!(rig.plain(peer, RST | ACK, 0, FAR + 1), other);
                assert_eq!(rig.plain(peer, RST, 7, 0), other);
            }
            // The server's other ports are not the server, whatever they acknowledge: a scanner
            // uses one sequence number for all.
            let other_port = peers[2];
            let syn_ack = rig.plain(other_port, Flags::SYN | ACK, ISS, ISN + 1);
            assert_eq!(syn_ack, Verdict::FromOther);
            assert_eq!(rig.plain(other_port, RST | ACK, 0, ISN + 1), other);
            // The server itself answers another SYN.
            let origin = rig.plain(hosts.server, Flags::SYN | ACK, ISS, FAR + 1);
            let expected = if won { Verdict::SynAckWrongNumber } else { Verdict::RaceUndecided };
            assert_eq!(origin, expected);
        }
    }
}

#[test]
fn who_is_not_allowed_is_another_peer_whatever_it_acknowledges() {
    let only = |settings: &mut Settings| {
        settings.services[0].allowed_replicas =
            AllowList::only_or_any(vec!["198.51.100.0/24".parse().unwrap()]);
    };
    let mut rig = Rig::<A>::with_settings(&V4_HOSTS, direct(), Keys::default(), only);
    rig.send_syn(ISN);
    for answers in 0..2 {
        let peer = "192.0.2.1:80";
        let syn_ack = rig.plain(peer, Flags::SYN | ACK, ISS, ISN + 1);
        assert_eq!(syn_ack, Verdict::UnlistedReplica);
        let sightings = &rig.gateway.common.counters.common.sightings;
        let seen = sightings.get(Sighting::NotAllowed).unwrap();
        assert_eq!(
            (seen.count, seen.address.to_string()),
            (answers as u64 + 1, "192.0.2.1".into())
        );
        let other = [Verdict::RaceUndecided, Verdict::FromOther][answers];
        assert_eq!(rig.plain(peer, RST | ACK, 0, ISN + 1), other);
        if answers == 0 {
            let refusal = rig.plain("198.51.100.77:80", RST | ACK, 0, ISN + 1);
            assert_eq!(refusal, Verdict::ResetByReplica);
            assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
        }
    }
}

in_all! {
    /// A replica that serves other sites at its own address: the client comes back from a port
    /// that has raced.
    fn a_connection_to_the_winner_itself_takes_the_place_of_one_that_has_ended<M>(hosts) {
        let mut rig = Rig::<M>::open(hosts);
        rig.client(FIN, ISN + 1, ISS + 1);
        rig.replica(FIN, ISS + 1, ISN + 2);
        rig.client(ACK, ISN + 2, ISS + 2);
        rig.wait(1_000);
        let to = hosts.replicas[0];
        let inside = |rig: &mut Rig<M>, flags, sequence, number| {
            let frame = Segment::new(hosts.client, to, flags, sequence, number).frame();
            let seen = rig.burst(Side::Inside, std::slice::from_ref(&frame));
            assert_eq!(seen.outside, [frame]);
        };
        inside(&mut rig, Flags::SYN, FAR, 0);
        rig.plain(to, Flags::SYN | ACK, 9, FAR + 1);
        inside(&mut rig, ACK, FAR + 1, 10);
        rig.plain(to, ACK, 10, FAR + 1);
        rig.plain(to, FIN, 10, FAR + 1);
        inside(&mut rig, FIN, FAR + 1, 11);
    }
}

#[test]
fn a_service_on_the_inside_is_noted_unless_it_is_everywhere() {
    fn in_mode<M: Mode>(scope: Scope) -> Option<u64> {
        let change = |settings: &mut Settings| settings.services[0].scope = scope;
        let mut rig = Rig::<M>::with_settings(&V4_HOSTS, direct(), Keys::default(), change);
        let (client, server) = (V4_HOSTS.client, V4_HOSTS.server);
        // The server's answer, from the inside.
        rig.burst(Side::Inside, &[Segment::syn_ack(server, client, ISS, ISN + 1).frame()]);
        // Other hosts of the inside answer as well.
        rig.burst(Side::Inside, &[Segment::syn_ack("192.0.2.99:80", client, ISS, ISN + 1).frame()]);
        let sightings = &rig.gateway.common.counters.common.sightings;
        sightings.get(Sighting::SidesSwapped).map(|seen| seen.count)
    }
    let prefix = Scope::Prefix(format!("{}/32", host(V4_HOSTS.server)).parse().unwrap());
    assert_eq!([in_mode::<A>(prefix), in_mode::<B>(prefix), in_mode::<C>(prefix)], [Some(1); 3]);
    assert_eq!(in_mode::<A>(Scope::Any), None);
}
