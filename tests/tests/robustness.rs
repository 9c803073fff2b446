//! Whatever comes in, by whichever side: no role panics, every packet gets one verdict, what is
//! nobody's leaves byte for byte, and what leaves changed is whole.
//!
//! That verdicts, counters and frames add up is checked by [`Harness`] at every burst.

use std::net::SocketAddr;
use std::time::Duration;

use firstack_tests::model::changing::CHANGING;
use firstack_tests::model::corpus::{
    KEY, UNSIGNED, arp, fuzzed, neighbour, prelude, samples, tagged_start, tunnelled,
};
use firstack_tests::model::plan::{Drawn, drawn, policy, waiting, with_policy};
use firstack_tests::model::{
    ACK, Arrival, CLIENTS, Carrier, FIRST_V6, Fed, Harness, Outer, PEERS, PEERS_V6, Packet, SYN,
    gateway, partition, peers, replica, run, switch,
};
use pipeline::base::published::Published;
use pipeline::counters::Generated;
use pipeline::memory::Policy;
use pipeline::packet::buffer::{HeapBuffer, HeapPool};
use pipeline::packet::view::{Kind, Side, View};
use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C};
use pipeline::role::gateway::{Gateway, Timeouts};
use pipeline::role::replica::Replica;
use pipeline::role::switch::Switch;
use pipeline::verdict::{Fate, Verdict};
use pipeline::wire::family::{V4, V6, Version};
use pipeline::wire::tunnel::Format;
use proptest::collection::vec;
use proptest::sample::select;

/// All roles; those that may know a key do in every other set.
struct Roles {
    a: Harness<Gateway<A>>,
    b: Harness<Gateway<B>>,
    c: Harness<Gateway<C>>,
    switch: Harness<Switch>,
    replica: Harness<Replica>,
}

impl Roles {
    fn new(with_key: bool, policy: &Policy, plan: &Drawn) -> Self {
        let key = with_key.then_some(KEY);
        let settings = || with_policy(gateway(8, Timeouts::default()), policy);
        let plans = Published::new(plan.published(&settings()));
        Self {
            a: Harness::<Gateway<A>>::planned(settings(), key, &plans),
            b: Harness::<Gateway<B>>::planned(settings(), key, &plans),
            c: Harness::<Gateway<C>>::planned(settings(), key, &plans),
            switch: Harness::switch(switch(key)),
            replica: Harness::new(replica(key), 8),
        }
    }

    fn set_pools(&mut self, limit: usize) {
        self.a.set_pool(HeapPool::with_limit(limit));
        self.b.set_pool(HeapPool::with_limit(limit));
        self.c.set_pool(HeapPool::with_limit(limit));
        self.switch.set_pool(HeapPool::with_limit(limit));
        self.replica.set_pool(HeapPool::with_limit(limit));
    }

    /// Arrivals of one side and time.
    fn check(&mut self, arrivals: &[Arrival]) {
        check(&mut self.a, arrivals);
        check(&mut self.b, arrivals);
        check(&mut self.c, arrivals);
        check(&mut self.switch, arrivals);
        check(&mut self.replica, arrivals);
    }

    /// Any arrivals, in bursts of these sizes.
    fn check_bursts(&mut self, arrivals: &[Arrival], sizes: &[usize]) {
        for range in partition(arrivals, sizes) {
            let last = arrivals[range.end - 1].at;
            self.check(&arrivals[range]);
            self.a.on_timer(last);
            self.b.on_timer(last);
            self.c.on_timer(last);
            self.switch.on_timer(last);
            self.replica.on_timer(last);
        }
    }
}

/// What left of what came in.
fn check<R: Role>(harness: &mut Harness<R>, arrivals: &[Arrival]) -> Fed {
    let told = |harness: &Harness<R>| {
        harness.generated(Generated::Challenge) + harness.generated(Generated::LostReset)
    };
    let before = told(harness);
    let fed = harness.feed(arrivals);
    let Some(first) = arrivals.first() else { return fed };
    if fed.verdicts.contains(&Verdict::Fragmented) || told(harness) != before {
        // The pieces, and what tells of lost connections, leave among the others.
        return fed;
    }
    let forwarded = |(_, verdict): &(_, &Verdict)| verdict.fate() == Fate::Forwarded;
    let sent_on: Vec<_> = arrivals.iter().zip(&fed.verdicts).filter(forwarded).collect();
    let asked: Vec<_> = arrivals.iter().zip(&fed.verdicts).filter_map(asks).collect();
    let is_direct_copy = |frame: &[u8]| {
        let is_new = arrivals.iter().all(|arrival| arrival.frame != frame);
        let inner = Outer::peel(frame).ok().and_then(|(_, inner, _)| ends(&inner));
        is_new && inner.is_some_and(|inner| asked.contains(&inner))
    };
    let left = fed.by(first.side.other()).iter().filter(|frame| !is_direct_copy(frame));
    let left: Vec<_> = left.collect();
    assert_eq!(sent_on.len(), left.len());
    for ((arrival, verdict), frame) in sent_on.iter().zip(left) {
        if CHANGING.contains(verdict) {
            check_changed(arrival, frame);
        } else {
            assert_eq!(frame, &arrival.frame, "{verdict:?} changed it");
        }
    }
    fed
}

/// The ends of a TCP packet.
fn ends(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let packet = pipeline::packet::view::Packet::new(HeapBuffer::new(frame));
    let View { kind: Kind::Tcp, version, .. } = packet.view else { return None };
    Some(match version {
        Version::V4 => (packet.source::<V4>().into(), packet.destination::<V4>().into()),
        Version::V6 => (packet.source::<V6>().into(), packet.destination::<V6>().into()),
    })
}

/// The ends of a SYN that a gateway may send copies of.
fn asks((arrival, verdict): (&Arrival, &Verdict)) -> Option<(SocketAddr, SocketAddr)> {
    let may_ask = matches!(
        verdict,
        Verdict::Tagged
            | Verdict::TaggedRetransmit
            | Verdict::TaggedNewIsn
            | Verdict::UntaggedRetransmit
            | Verdict::UntaggedBackoff
            | Verdict::SynDeferred
    );
    ends(&arrival.frame).filter(|_| may_ask)
}

/// What leaves changed is whole, in a tunnel or not, and its checksums are as right as they came.
fn check_changed(arrival: &Arrival, frame: &[u8]) {
    let inside = |frame: &[u8]| {
        let peeled = Outer::peel(frame).map(|(_, inner, _)| inner);
        Packet::read(frame).or_else(|error| Packet::read(&peeled.map_err(|_| error)?))
    };
    let Ok(before) = inside(&arrival.frame) else { return };
    let after = inside(frame).expect("whole, or whole within");
    let checksums = |packet: &Packet| (packet.ip_checksum, packet.tcp_checksum);
    assert_eq!(checksums(&after), checksums(&before));
    assert_eq!(after.payload, before.payload);
}

#[test]
fn no_soup_upsets_a_role() {
    let pools = select(vec![0usize, 1, 5, usize::MAX]);
    let case = (fuzzed(1), vec(1usize..=64, 1..5), pools, proptest::bool::ANY, policy(), drawn());
    run(1500, &case, |(arrivals, sizes, limit, with_key, policy, plan)| {
        let mut roles = Roles::new(with_key, &policy, &plan);
        roles.set_pools(limit);
        roles.check_bursts(&arrivals, &sizes);
    });
}

#[test]
fn every_length_and_every_split_of_every_sort_is_borne() {
    let mut roles = Roles::new(true, &waiting(), &Drawn::usual());
    let mut at = Duration::from_secs(1);
    for whole in samples() {
        // Connections that it may belong to.
        roles.check_bursts(&prelude(at), &[64]);
        for length in 0..=whole.len() {
            // Time enough for the limits of switch and replica.
            at += Duration::from_secs(3);
            let mut padded = whole[..length].to_vec();
            padded.resize(whole.len(), 0);
            for (frame, carrier) in [
                (whole[..length].to_vec(), Carrier::Whole),
                (padded, Carrier::Whole),
                (whole.clone(), Carrier::Split(length)),
            ] {
                for side in Side::ALL {
                    roles.check(&[Arrival { at, side, frame: frame.clone(), carrier }]);
                }
            }
        }
    }
}

#[test]
fn every_single_byte_may_be_any_other() {
    let mut roles = Roles::new(true, &waiting(), &Drawn::usual());
    let mut at = Duration::from_secs(1);
    for whole in samples() {
        roles.check_bursts(&prelude(at), &[64]);
        for place in 12..whole.len() {
            at += Duration::from_secs(3);
            for change in [0x01, 0x0f, 0x10, 0x80, 0xf0, 0xff] {
                let mut frame = whole.clone();
                frame[place] ^= change;
                for side in Side::ALL {
                    let carrier = Carrier::Whole;
                    roles.check(&[Arrival { at, side, frame: frame.clone(), carrier }]);
                }
            }
        }
    }
}

fn arrives(side: Side, frame: Vec<u8>) -> Arrival {
    Arrival { at: Duration::from_secs(1), side, frame, carrier: Carrier::Whole }
}

#[test]
fn a_gateway_without_buffers_drops_and_counts_what_it_cannot_reset() {
    let (client, server, replica) = (CLIENTS[0], PEERS[0], PEERS[4]);
    let mut harness = Harness::<Gateway<A>>::gateway(gateway(4, Timeouts::default()), None);
    harness.set_pool(HeapPool::with_limit(0));
    let mut answer = Packet::new(replica, client, SYN | ACK);
    answer.acknowledgement = 1;
    let start = Packet::new(client, server, SYN);
    let fed = harness.feed_singly(&[
        arrives(Side::Inside, start.frame()),
        arrives(Side::Outside, answer.frame()),
        arrives(Side::Outside, answer.sent_by(server).frame()),
        arrives(Side::Inside, Packet::new(client, server, ACK).frame()),
    ]);
    let expected = [Verdict::Tagged, Verdict::ReplicaWon, Verdict::NoBuffer, Verdict::ToReplica];
    assert_eq!(fed.verdicts, expected);
    assert_eq!((fed.by(Side::Inside).len(), fed.by(Side::Outside).len()), (1, 2));
}

#[test]
fn a_switch_without_buffers_still_delivers_and_counts_the_copies_it_could_not_make() {
    let mut harness = Harness::switch(switch(None));
    harness.set_pool(HeapPool::with_limit(0));
    let start = tagged_start(CLIENTS[0], PEERS[0], &UNSIGNED);
    let fed = harness.feed(&[arrives(Side::Outside, start.frame())]);
    assert_eq!(fed.verdicts, [Verdict::FannedOut]);
    assert_eq!((fed.by(Side::Inside).len(), fed.by(Side::Outside).len()), (1, 0));
    assert_eq!(harness.role.counters().scalar(pipeline::counters::Scalar::CopiesFailed).get(), 3);
}

#[test]
fn a_replica_without_buffers_answers_no_arp_and_counts_it() {
    let mut harness = Harness::new(replica(None), 8);
    harness.set_pool(HeapPool::with_limit(0));
    let request = arp(1, [2, 0, 0, 0, 3, 1], [198, 51, 100, 1], [198, 51, 100, 5]);
    let solicitation = neighbour(false, [2, 0, 0, 0, 3, 1], PEERS_V6[6], tunnel_address());
    for frame in [request, solicitation] {
        let fed = harness.feed(&[arrives(Side::Outside, frame)]);
        assert_eq!(fed.verdicts, [Verdict::NoBuffer]);
    }
    assert_eq!(harness.on_timer(Duration::from_secs(60)), [Vec::<Vec<u8>>::new(), Vec::new()]);
}

#[test]
fn a_switch_sends_nothing_beside_a_tunnel_for_which_there_is_no_headroom() {
    let mut harness = Harness::switch(switch(None));
    let far = SocketAddr::from(([203, 0, 113, 40], 80));
    let mut data = Packet::new(CLIENTS[0], far, ACK);
    data.payload = vec![7; 60];
    let whole = arrives(Side::Outside, data.frame());
    let cramped = Arrival { carrier: Carrier::Cramped, ..whole.clone() };
    let fed = harness.feed(&[whole, cramped]);
    assert_eq!(fed.verdicts, [Verdict::ToServer, Verdict::NoBuffer]);
    assert_eq!(fed.by(Side::Inside).len(), 1);
}

/// A tagged start packet may carry data, and may then be longer than a buffer's first segment.
#[test]
fn a_switch_copes_with_a_tagged_start_packet_over_two_segments() {
    let mut harness = Harness::switch(switch(None));
    let (mut delivered, carrier) = (0, Carrier::Split(2048));
    for client in &CLIENTS[..FIRST_V6] {
        let mut start = tagged_start(*client, PEERS[0], &UNSIGNED);
        start.payload = vec![7; 3000];
        let arrival = Arrival { carrier, ..arrives(Side::Outside, start.frame()) };
        // One server is reached by a tunnel, which has no room for it.
        match check(&mut harness, &[arrival]).by(Side::Inside) {
            [frame] => delivered += usize::from(frame.len() > 3000),
            left => assert!(left.is_empty()),
        }
    }
    assert!(delivered > 0);
}

/// A tunnel's outer header has no room for the length of the longest packets.
#[test]
fn a_switch_puts_no_packet_into_a_tunnel_that_cannot_hold_it() {
    let mut harness = Harness::switch(switch(None));
    let far = SocketAddr::from(([203, 0, 113, 40], 80));
    let mut data = Packet::new(CLIENTS[0], far, ACK);
    data.payload = vec![7; 65_535 - 40];
    let fed = harness.feed(&[arrives(Side::Outside, data.frame())]);
    for frame in fed.by(Side::Inside) {
        let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert_eq!(14 + length, frame.len(), "the outer length is that of the packet");
    }
}

#[test]
fn a_tunnel_in_a_tunnel_in_a_tunnel_goes_no_further() {
    for (client, peers) in [(CLIENTS[0], PEERS), (CLIENTS[FIRST_V6], PEERS_V6)] {
        let mut harness = Harness::new(replica(None), 8);
        let mut frame = tagged_start(client, peers[0], &UNSIGNED).frame();
        for depth in 1..8 {
            frame = tunnelled(&frame, peers[0], peers[4], Format::ALL[depth % 3]);
            let fed = check(&mut harness, &[arrives(Side::Outside, frame.clone())]);
            if depth > 1 {
                assert_eq!(fed.verdicts, [Verdict::TunnelNested]);
            }
        }
    }
}

/// An address of the replica's that no host bears.
fn tunnel_address() -> SocketAddr {
    "[2001:db8:30::5]:0".parse().expect("an endpoint")
}

/// Under C a loser's reset needs a buffer with room for its tunnel, and data room in its own.
#[test]
fn under_c_without_buffers_or_headroom_packets_are_dropped_and_counted() {
    for client in [CLIENTS[0], CLIENTS[FIRST_V6]] {
        let (server, replica, other) = (peers(client)[0], peers(client)[4], peers(client)[5]);
        let mut harness = Harness::<Gateway<C>>::gateway(gateway(4, Timeouts::default()), None);
        let mut answer = Packet::new(server, client, SYN | ACK);
        answer.acknowledgement = 1;
        let answer = |from| tunnelled(&answer.frame(), from, client, Format::Gre);
        let data = arrives(Side::Inside, Packet::new(client, server, ACK).frame());
        harness.feed_singly(&[
            arrives(Side::Inside, Packet::new(client, server, SYN).frame()),
            arrives(Side::Outside, answer(replica)),
        ]);
        harness.set_pool(HeapPool::with_limit(0));
        let fed = harness.feed_singly(&[
            arrives(Side::Outside, answer(other)),
            Arrival { carrier: Carrier::Cramped, ..data.clone() },
            data,
        ]);
        // 128 bytes of a cramped buffer leave more room than a short frame's tunnel takes.
        let expected = [Verdict::NoBuffer, Verdict::ToReplica, Verdict::ToReplica];
        assert_eq!(fed.verdicts, expected);
        assert_eq!((fed.by(Side::Inside).len(), fed.by(Side::Outside).len()), (0, 2));
    }
}
