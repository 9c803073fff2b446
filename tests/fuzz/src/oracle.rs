//! What must hold of every packet, whatever it is and whatever came before.

use etherparse::{EtherType, IpNumber, NetSlice, SlicedPacket};
use firstack_tests::decoder;
use firstack_tests::model::changing::CHANGING;
use firstack_tests::model::{ACK, Arrival, FIN, Fed, Outer, Packet, RST, SYN};
use pipeline::verdict::{Fate, Verdict};

/// Checks what became of one packet that was fed alone.
///
/// # Panics
/// If it is not as it has to be.
pub(crate) fn check(arrival: &Arrival, fed: &Fed) {
    let verdict = fed.verdicts[0];
    let onward = fed.by(arrival.side.other());
    let whole = || fed.left.iter().flatten();
    match verdict.fate() {
        // The pieces are made, and the packet is gone.
        _ if verdict == Verdict::Fragmented => add_up(&arrival.frame, onward),
        Fate::Forwarded if CHANGING.contains(&verdict) => {
            let is_changed = onward.iter().any(|frame| keeps(&arrival.frame, frame));
            assert!(is_changed, "{verdict:?}: what it carries has changed");
        }
        Fate::Forwarded => {
            assert!(onward.contains(&arrival.frame), "{verdict:?} changed what is not ours");
        }
        Fate::Dropped => {
            assert!(!whole().any(|frame| *frame == arrival.frame), "{verdict:?} did not drop it");
        }
        Fate::Consumed => {}
    }
    if is_foreign(&arrival.frame) {
        assert_eq!(verdict.fate(), Fate::Forwarded, "{verdict:?}: it is not ours");
        assert_eq!(onward, std::slice::from_ref(&arrival.frame), "{verdict:?}: it is not ours");
        assert!(fed.by(arrival.side).is_empty(), "{verdict:?}: answered what is not ours");
    }
    if decoder::check(&arrival.frame).is_ok() {
        for frame in whole() {
            let sound = decoder::check(frame);
            assert_eq!(sound, Ok(()), "{verdict:?}: unsound {frame:02x?}");
        }
    }
    resets(arrival, fed);
}

/// Checks frames that the role made on its own.
pub(crate) fn check_made(left: &[Vec<Vec<u8>>; 2]) {
    for frame in left.iter().flatten() {
        // Some have waited since they came, and are as right as they came.
        let sound = decoder::check(frame);
        let is_header_sound = sound.as_ref().err().is_none_or(|why| why.contains("TCP"));
        assert!(is_header_sound, "{sound:?}: unsound {frame:02x?}");
    }
}

/// Returns the TCP packet in a frame, or in its tunnel.
fn inside(frame: &[u8]) -> Option<Packet> {
    Packet::read(frame).ok().or_else(|| Packet::read(&Outer::peel(frame).ok()?.1).ok())
}

/// Returns whether a changed frame still carries what came: the data, and checksums that are as
/// right or as wrong as they were. What neither decoder nor builder can read is not compared.
fn keeps(came: &[u8], left: &[u8]) -> bool {
    let Some(before) = inside(came) else { return true };
    let Some(after) = inside(left) else { return false };
    let sums = |packet: &Packet| (packet.ip_checksum, packet.tcp_checksum);
    sums(&after) == sums(&before)
        && after.payload == before.payload
        && (after.sequence, after.flags) == (before.sequence, before.flags)
}

/// The pieces of an IPv4 packet that left in tunnels are the packet, which may be a piece itself.
fn add_up(came: &[u8], left: &[Vec<u8>]) {
    let ipv4 = |frame: &[u8]| {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(NetSlice::Ipv4(ip)) = sliced.net else { return None };
        let header = ip.header().to_header();
        Some((header, ip.payload().payload.to_vec()))
    };
    let Some((whole, data)) = ipv4(came) else { return };
    let pieces = left.iter().map(|frame| ipv4(&Outer::peel(frame).ok()?.1));
    let Some(mut pieces) = pieces.collect::<Option<Vec<_>>>() else { panic!("a piece of none") };
    pieces.sort_by_key(|(header, _)| header.fragment_offset.value());
    let (mut next, mut joined) = (usize::from(whole.fragment_offset.value()) * 8, Vec::<u8>::new());
    let last = pieces.len() - 1;
    for (number, (header, piece)) in pieces.iter().enumerate() {
        assert_eq!(usize::from(header.fragment_offset.value()) * 8, next, "a wrong offset");
        assert_eq!(header.more_fragments, number < last || whole.more_fragments, "the wrong end");
        assert_eq!(header.identification, whole.identification, "another packet");
        next += piece.len();
        joined.extend(piece);
    }
    assert_eq!(joined.len(), data.len(), "the pieces are not the packet");
    // The head may have been rewritten or its MSS lowered.
    let head = joined.len().min(60);
    assert_eq!(joined[head..], data[head..], "the pieces are not the packet");
}

/// A reset that is made for a SYN/ACK has its acknowledgement number as sequence number, its ports
/// the other way round, and nothing else (protocol.md 4).
fn resets(arrival: &Arrival, fed: &Fed) {
    let Some(came) = inside(&arrival.frame) else { return };
    if came.flags & (SYN | ACK | RST | FIN) != SYN | ACK {
        return;
    }
    for reset in fed.left.iter().flatten().filter_map(|frame| inside(frame)) {
        if reset.flags & RST == 0 {
            continue;
        }
        assert_eq!((reset.flags, reset.sequence), (RST, came.acknowledgement), "a wrong reset");
        let ports = (reset.from.port(), reset.to.port());
        assert_eq!(ports, (came.to.port(), came.from.port()), "a reset to somebody else");
        assert!(reset.payload.is_empty() && reset.options.is_empty(), "a reset that says more");
    }
}

const GUE: u16 = 6080;

/// Returns whether a sound frame is of no protocol that any role looks at: not TCP, ICMP, a tunnel,
/// a fragment or address resolution.
fn is_foreign(frame: &[u8]) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    let Some(net) = &packet.net else {
        return packet.ether_payload().is_some_and(|payload| {
            !matches!(payload.ether_type, EtherType::ARP | EtherType::IPV4 | EtherType::IPV6)
        });
    };
    let payload = match net {
        NetSlice::Ipv4(ip) => ip.payload(),
        NetSlice::Ipv6(ip) => ip.payload(),
        NetSlice::Arp(_) => return false,
    };
    match payload.ip_number {
        _ if payload.fragmented => false,
        IpNumber::TCP | IpNumber::ICMP | IpNumber::IPV6_ICMP => false,
        IpNumber::IPV4 | IpNumber::IPV6 | IpNumber::GRE => false,
        IpNumber::UDP => payload.payload.get(2..4).is_some_and(|port| port != GUE.to_be_bytes()),
        _ => true,
    }
}
