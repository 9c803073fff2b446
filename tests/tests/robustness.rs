//! Whatever comes in, by whichever side: no role panics, every packet gets one verdict, what is
//! nobody's leaves byte for byte, and what leaves changed is whole.
//!
//! That verdicts, counters and frames add up is checked by [`Rig`] at every burst.

use std::net::SocketAddr;
use std::time::Duration;

use firstack_tests::model::soup::{arp, samples, soup, tagged_start, tunnelled};
use firstack_tests::model::{
    ACK, Arrival, CLIENTS, Carrier, Fed, PEERS, Packet, Rig, SYN, gateway, replica, run, switch,
};
use pipeline::buffer::HeapPool;
use pipeline::configuration::A;
use pipeline::role::Role;
use pipeline::role::gateway::{Gateway, Timeouts};
use pipeline::verdict::{Fate, Verdict};
use pipeline::view::Side;
use proptest::collection::vec;
use proptest::sample::select;

/// What changes a packet that it forwards, always or at some server.
const CHANGING: [Verdict; 19] = [
    Verdict::Tagged,
    Verdict::TaggedAgain,
    Verdict::TaggedAnew,
    Verdict::StartToWinner,
    Verdict::ToReplica,
    Verdict::ReplicaWon,
    Verdict::AcknowledgementRepeated,
    Verdict::FromReplica,
    Verdict::IcmpTranslated,
    Verdict::FragmentTranslated,
    Verdict::FannedOut,
    Verdict::NotFannedOut,
    Verdict::NoReplica,
    Verdict::FanOutLimited,
    Verdict::ToServer,
    Verdict::IcmpToServer,
    Verdict::FragmentToServer,
    Verdict::Cracked,
    Verdict::CrackedAgain,
];

fn roles() -> (Rig<impl Role>, Rig<impl Role>, Rig<impl Role>) {
    let gateway = Rig::<Gateway<A>>::gateway(gateway(4, Timeouts::default()), None);
    (gateway, Rig::switch(switch()), Rig::new(replica(), 1))
}

/// What left of what came in.
fn check<R: Role>(rig: &mut Rig<R>, arrivals: &[Arrival]) -> Fed {
    let fed = rig.feed(arrivals);
    let Some(first) = arrivals.first() else { return fed };
    let forwarded = |(_, verdict): &(_, &Verdict)| verdict.fate() == Fate::Forwarded;
    let sent_on: Vec<_> = arrivals.iter().zip(&fed.verdicts).filter(forwarded).collect();
    let left = fed.by(first.side.other());
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

/// What leaves changed is whole, and its checksums are as right as they came.
fn check_changed(arrival: &Arrival, frame: &[u8]) {
    let Ok(before) = Packet::read(&arrival.frame) else { return };
    if let Ok(after) = Packet::read(frame) {
        let checksums = |packet: &Packet| (packet.ip_checksum, packet.tcp_checksum);
        assert_eq!(checksums(&after), checksums(&before));
        assert_eq!(after.payload, before.payload);
        return;
    }
    // The server is at the end of a tunnel.
    let vlans = 4 * before.vlans.len();
    let mut inner = frame.to_vec();
    let length = usize::from(u16::from_be_bytes([frame[vlans + 16], frame[vlans + 17]]));
    assert_eq!((frame.len(), frame[vlans + 23]), (vlans + 14 + length, 4));
    inner.drain(vlans + 14..vlans + 34);
    assert_eq!(Packet::read(&inner).expect("whole within").payload, before.payload);
}

fn check_bursts<R: Role>(rig: &mut Rig<R>, arrivals: &[Arrival], sizes: &[usize]) {
    for range in firstack_tests::model::partition(arrivals, sizes) {
        let last = arrivals[range.end - 1].at;
        check(rig, &arrivals[range]);
        rig.housekeep(last);
    }
}

#[test]
fn no_soup_upsets_a_role() {
    let pools = select(vec![0usize, 1, 5, usize::MAX]);
    run(1500, &(soup(1), vec(1usize..=64, 1..5), pools), |(arrivals, sizes, limit)| {
        let (mut gateway, mut switch, mut replica) = roles();
        gateway.set_pool(HeapPool::with_limit(limit));
        switch.set_pool(HeapPool::with_limit(limit));
        replica.set_pool(HeapPool::with_limit(limit));
        check_bursts(&mut gateway, &arrivals, &sizes);
        check_bursts(&mut switch, &arrivals, &sizes);
        check_bursts(&mut replica, &arrivals, &sizes);
    });
}

#[test]
fn every_length_and_every_split_of_every_sort_is_borne() {
    let (mut gateway, mut switch, mut replica) = roles();
    let mut at = Duration::from_secs(1);
    for whole in samples() {
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
                    let arrival = Arrival { at, side, frame: frame.clone(), carrier };
                    check(&mut gateway, std::slice::from_ref(&arrival));
                    check(&mut switch, std::slice::from_ref(&arrival));
                    check(&mut replica, &[arrival]);
                }
            }
        }
    }
}

#[test]
fn every_single_byte_may_be_any_other() {
    let (mut gateway, mut switch, mut replica) = roles();
    let mut at = Duration::from_secs(1);
    for whole in samples() {
        for place in 12..whole.len() {
            at += Duration::from_secs(3);
            for change in [0x01, 0x0f, 0x10, 0x80, 0xf0, 0xff] {
                let mut frame = whole.clone();
                frame[place] ^= change;
                for side in Side::ALL {
                    let carrier = Carrier::Whole;
                    let arrival = Arrival { at, side, frame: frame.clone(), carrier };
                    check(&mut gateway, std::slice::from_ref(&arrival));
                    check(&mut switch, std::slice::from_ref(&arrival));
                    check(&mut replica, &[arrival]);
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
    let mut rig = Rig::<Gateway<A>>::gateway(gateway(4, Timeouts::default()), None);
    rig.set_pool(HeapPool::with_limit(0));
    let mut answer = Packet::new(replica, client, SYN | ACK);
    answer.acknowledgement = 1;
    let start = Packet::new(client, server, SYN);
    let fed = rig.feed_singly(&[
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
    let mut rig = Rig::switch(switch());
    rig.set_pool(HeapPool::with_limit(0));
    let start = tagged_start(CLIENTS[0], PEERS[0], &[253, 5, 0x4e, 0x52, 1]);
    let fed = rig.feed(&[arrives(Side::Outside, start.frame())]);
    assert_eq!(fed.verdicts, [Verdict::FannedOut]);
    assert_eq!((fed.by(Side::Inside).len(), fed.by(Side::Outside).len()), (1, 0));
    assert_eq!(rig.role.counters().copies_failed.get(), 3);
}

#[test]
fn a_replica_without_buffers_answers_no_arp_and_counts_it() {
    let mut rig = Rig::new(replica(), 1);
    rig.set_pool(HeapPool::with_limit(0));
    let request = arp(1, [2, 0, 0, 0, 3, 1], [198, 51, 100, 1], [198, 51, 100, 5]);
    let fed = rig.feed(&[arrives(Side::Outside, request)]);
    assert_eq!(fed.verdicts, [Verdict::NoBuffer]);
    assert_eq!(rig.housekeep(Duration::from_secs(60)), [Vec::<Vec<u8>>::new(), Vec::new()]);
}

#[test]
fn a_switch_sends_nothing_beside_a_tunnel_for_which_there_is_no_headroom() {
    let mut rig = Rig::switch(switch());
    let far = SocketAddr::from(([203, 0, 113, 40], 80));
    let mut data = Packet::new(CLIENTS[0], far, ACK);
    data.payload = vec![7; 60];
    let whole = arrives(Side::Outside, data.frame());
    let cramped = Arrival { carrier: Carrier::Cramped, ..whole.clone() };
    let fed = rig.feed(&[whole, cramped]);
    assert_eq!(fed.verdicts, [Verdict::ToServer, Verdict::NoBuffer]);
    assert_eq!(fed.by(Side::Inside).len(), 1);
}

/// A tagged start packet may carry data, and may then be longer than a buffer's first segment.
#[test]
fn a_switch_copes_with_a_tagged_start_packet_over_two_segments() {
    let mut rig = Rig::switch(switch());
    let mut start = tagged_start(CLIENTS[0], PEERS[0], &[253, 5, 0x4e, 0x52, 1]);
    start.payload = vec![7; 3000];
    let carrier = Carrier::Split(2048);
    let arrival = Arrival { carrier, ..arrives(Side::Outside, start.frame()) };
    let fed = check(&mut rig, &[arrival]);
    assert_eq!(fed.by(Side::Inside).len(), 1);
}

/// A tunnel's outer header has no room for the length of the longest packets.
#[test]
fn a_switch_puts_no_packet_into_a_tunnel_that_cannot_hold_it() {
    let mut rig = Rig::switch(switch());
    let far = SocketAddr::from(([203, 0, 113, 40], 80));
    let mut data = Packet::new(CLIENTS[0], far, ACK);
    data.payload = vec![7; 65_535 - 40];
    let fed = rig.feed(&[arrives(Side::Outside, data.frame())]);
    for frame in fed.by(Side::Inside) {
        let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert_eq!(14 + length, frame.len(), "the outer length is that of the packet");
    }
}

#[test]
fn a_tunnel_in_a_tunnel_in_a_tunnel_goes_no_further() {
    let mut rig = Rig::new(replica(), 1);
    let mut frame = tagged_start(CLIENTS[0], PEERS[0], &[253, 5, 0x4e, 0x52, 1]).frame();
    for depth in 1..8 {
        frame = tunnelled(&frame, [203, 0, 113, 10], [198, 51, 100, 10], 4);
        let fed = check(&mut rig, &[arrives(Side::Outside, frame.clone())]);
        if depth > 1 {
            assert_eq!(fed.verdicts, [Verdict::TunnelNested]);
        }
    }
}
