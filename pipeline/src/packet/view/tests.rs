use super::*;
use crate::packet::buffer::HeapBuffer;
use crate::testing::{self, Segment};
use crate::wire::tunnel::Format;

fn kind(frame: &[u8]) -> Kind {
    Packet::new(HeapBuffer::new(frame)).view.kind
}

#[test]
fn parses_tcp_behind_vlan_tags() {
    let frame = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).frame();
    let packet = Packet::new(HeapBuffer::new(&frame));
    assert_eq!(packet.view.kind, Kind::Tcp);
    assert_eq!(packet.source::<V4>(), testing::endpoint("198.18.1.10:40000"));
    assert_eq!(packet.destination::<V4>(), testing::endpoint("203.0.113.10:80"));
    assert!(packet.ip_checksum_ok() && packet.tcp_checksum_ok::<V4>());

    let mut tagged = frame.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let packet = Packet::new(HeapBuffer::new(&tagged));
    assert_eq!((packet.view.kind, packet.view.l3), (Kind::Tcp, 18));
    assert!(packet.tcp_checksum_ok::<V4>());
}

#[test]
fn padding_is_not_part_of_the_packet() {
    let mut frame = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).frame();
    let end = frame.len();
    frame.resize(60, 0xee);
    let packet = Packet::new(HeapBuffer::new(&frame));
    assert_eq!(packet.view.end as usize, end);
    assert!(!packet.has_data() && packet.tcp_checksum_ok::<V4>());
}

#[test]
fn malformed_packets_have_a_verdict() {
    let frame = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).frame();
    let with = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        kind(&frame)
    };
    assert_eq!(kind(&frame[..13]), Kind::Other(Verdict::EthernetTruncated));
    assert_eq!(kind(&frame[..33]), Kind::Other(Verdict::IpTruncated));
    assert_eq!(with(14, 0x55), Kind::Other(Verdict::IpVersion));
    assert_eq!(with(14, 0x44), Kind::Other(Verdict::IpHeaderLength));
    assert_eq!(with(17, 0xff), Kind::Other(Verdict::FrameCut));
    assert_eq!(with(46, 0x40), Kind::Other(Verdict::TcpDataOffset));
    assert_eq!(with(46, 0xf0), Kind::Other(Verdict::TcpTruncated));
    assert_eq!(with(23, 17), Kind::Other(Verdict::OtherProtocol));
    assert_eq!(with(20, 0x20), Kind::FirstFragment);
    assert_eq!(with(21, 0x20), Kind::Fragment);
    assert_eq!(with(23, 4), Kind::BadTunnel, "the inner packet is not IP");
    assert_eq!(with(12, 0x99), Kind::Other(Verdict::NonIp));
}

#[test]
fn parses_ipv6_and_its_fragments() {
    let frame = Segment::syn("[2001:db8:1::10]:40000", "[2001:db8:2::10]:80", 7).frame();
    let packet = Packet::new(HeapBuffer::new(&frame));
    assert_eq!((packet.view.version, packet.view.kind), (Version::V6, Kind::Tcp));
    assert_eq!(packet.source::<V6>(), testing::endpoint("[2001:db8:1::10]:40000"));
    assert!(packet.ip_checksum_ok() && packet.tcp_checksum_ok::<V6>());
    let fragment = |place: u8| {
        let mut frame = frame.clone();
        frame[20] = 44;
        frame[19] += 8;
        frame.splice(54..54, [6, 0, 0, place, 0, 0, 0, 9]);
        kind(&frame)
    };
    assert_eq!([fragment(0), fragment(1)], [Kind::Tcp, Kind::FirstFragment]);
    assert_eq!([fragment(8), fragment(9)], [Kind::Fragment; 2]);
    let with = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        kind(&frame)
    };
    assert_eq!(with(14, 0x45), Kind::Other(Verdict::IpVersion));
    assert_eq!(with(19, 0xff), Kind::Other(Verdict::FrameCut));
    assert_eq!(with(20, 43), Kind::Other(Verdict::Ipv6Extensions));
    assert_eq!(with(20, 58), Kind::Icmp);
    assert_eq!(with(20, 17), Kind::Other(Verdict::OtherProtocol));
    assert_eq!(kind(&frame[..53]), Kind::Other(Verdict::IpTruncated));
}

#[test]
fn parses_the_inner_packet_of_every_tunnel_format_and_family() {
    for (from, to) in [("203.0.113.10", "198.51.100.10"), ("2001:db8:2::10", "2001:db8:3::1")] {
        for ends in [("10.0.0.1:1", "10.0.0.2:80"), ("[2001:db8::1]:1", "[2001:db8::2]:80")] {
            for format in Format::ALL {
                let inner = Segment::syn(ends.0, ends.1, 7).packet();
                let packet = testing::tunnel_in(format, (from, to), (0, 5), &inner);
                let frame = testing::ethernet_frame(([2; 6], [4; 6]), &packet);
                let view = View::parse(&frame, frame.len());
                assert_eq!(view.kind, Kind::Tunnel);
                let inner_view = view.inner(&frame);
                assert_eq!((inner_view.kind, inner_view.l3), (Kind::Tcp, view.payload));
                assert_eq!(inner_view.end, view.end);
                // The inner packet is not of the version that the header names.
                let mut other = frame.clone();
                other[usize::from(view.payload)] ^= 0x20;
                assert_eq!(kind(&other), Kind::BadTunnel);
            }
        }
    }
}

#[test]
fn a_header_split_over_segments_is_truncated() {
    let frame = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).frame();
    let packet = Packet::new(HeapBuffer::segmented(&frame, 50));
    assert_eq!(packet.view.kind, Kind::Other(Verdict::TcpTruncated));
}

/// Returns what the general parser makes of a frame.
fn parsed_by_general(head: &[u8], frame_len: usize) -> View {
    let mut view = View::NOTHING;
    view.parse_any(head, frame_len);
    view
}

/// Checks that all parsers that take a frame make the same of it, and the same of the packet inside,
/// if it is a tunnel. Returns whether it is plain, and of which family.
fn check_parsers(head: &[u8], frame_len: usize) -> Shape {
    let general = parsed_by_general(head, frame_len);
    for fast in [View::plain(head, frame_len), View::plain_v6(head, frame_len)] {
        assert!(fast.is_none_or(|fast| fast == general), "{fast:?} {general:?}");
    }
    // What is in the place before does not matter.
    let mut view = View { payload: 9, kind: Kind::Arp, version: Version::V6, ..View::NOTHING };
    let shape = view.parse_in_place(head, frame_len);
    assert_eq!(view, general);
    assert!(shape == Shape::Other || shape == general.shape(), "{shape:?} {general:?}");
    assert_eq!(View::parse(head, frame_len), general);
    if general.kind == Kind::Tunnel {
        let mut inner = View { kind: Kind::Arp, ..general };
        inner.parse_inner(&general, head);
        let mut expected = View::NOTHING;
        expected.parse_any_inner(&general, head);
        assert_eq!(inner, expected);
        assert_eq!(general.inner(head), expected);
        let (mut v4, mut v6) = (View::NOTHING, View::NOTHING);
        let is_plain = v4.parse_plain_inner::<V4>(&general, head).is_some();
        assert!(if is_plain { v4 == expected } else { v4 == View::NOTHING });
        let is_plain = v6.parse_plain_inner::<V6>(&general, head).is_some();
        assert!(if is_plain { v6 == expected } else { v6 == View::NOTHING });
    }
    shape
}

/// Returns frames of every kind that the parsers distinguish, of both families, plain and in every
/// tunnel.
fn frames() -> Vec<Vec<u8>> {
    let ends = [("198.18.1.10:40000", "203.0.113.10:80"), ("[2001:db8::1]:1", "[2001:db8::2]:80")];
    let tunnels = [("203.0.113.10", "198.51.100.10"), ("2001:db8:2::10", "2001:db8:3::1")];
    let mut frames = Vec::new();
    for (from, to) in ends {
        let tcp = Segment::ack(from, to, 7, 9).payload(&[5; 9]);
        let plain = tcp.frame();
        frames.push(Segment::syn(from, to, 7).options(&[1; 12]).frame());
        for tunnel in tunnels {
            for format in Format::ALL {
                let packet = testing::tunnel_in(format, tunnel, (0, 7), &tcp.packet());
                frames.push(testing::ethernet_frame(tcp.macs, &packet));
            }
        }
        for tags in [&[0x81, 0, 0, 5][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
            let mut tagged = plain.clone();
            tagged.splice(12..12, tags.iter().copied());
            frames.push(tagged);
        }
        // UDP, ICMP, ICMPv6, ARP.
        let protocol = if plain[12] == 0x08 { 23 } else { 20 };
        for number in [17, 1, 58] {
            let mut other = plain.clone();
            other[protocol] = number;
            frames.push(other);
        }
        // Extension headers of every kind in turn, among them fragments; or IP options.
        let options = if plain[12] == 0x08 { 34 } else { 54 };
        for next in [0, 43, 44, 60] {
            let mut more = plain.clone();
            more.splice(options..options, [6, 0, 0, 0, 0, 0, 0, 9]);
            if plain[12] == 0x08 {
                more[14] += 2;
                more[17] += 8;
            } else {
                more[20] = next;
                more[19] += 8;
            }
            frames.push(more);
        }
        frames.push(plain);
    }
    frames
}

#[test]
fn the_fast_parsers_take_what_is_common() {
    let shape = |frame: &[u8]| {
        let fast = View::plain(frame, frame.len()).or(View::plain_v6(frame, frame.len()));
        (check_parsers(frame, frame.len()), fast.map(|view| view.kind))
    };
    let tcp = |from, to| Segment::ack(from, to, 7, 9).payload(&[5; 9]);
    let v4 = tcp("198.18.1.10:40000", "203.0.113.10:80");
    let v6 = tcp("[2001:db8::1]:1", "[2001:db8::2]:80");
    assert_eq!(shape(&v4.frame()), (Shape::PlainV4, Some(Kind::Tcp)));
    assert_eq!(shape(&v6.frame()), (Shape::PlainV6, Some(Kind::Tcp)));
    let tunnelled = [
        v4.tunnelled("203.0.113.10", "198.51.100.10"),
        v6.tunnelled("2001:db8:2::10", "2001:db8:3::1"),
        v4.tunnelled("2001:db8:2::10", "2001:db8:3::1"),
    ];
    for frame in tunnelled {
        assert_eq!(shape(&frame), (Shape::Other, Some(Kind::Tunnel)));
        let outer = View::parse(&frame, frame.len());
        let (end, at) = (outer.end as usize, usize::from(outer.payload));
        let inner = View::plain_tcp(&frame, end, at).or(View::plain_tcp_v6(&frame, end, at));
        assert_eq!(inner.map(|inner| inner.kind), Some(Kind::Tcp));
        let inner = outer.inner(&frame);
        let (mut v4, mut v6) = (View::NOTHING, View::NOTHING);
        let is_plain_v4 = v4.parse_plain_inner::<V4>(&outer, &frame).is_some();
        let is_plain_v6 = v6.parse_plain_inner::<V6>(&outer, &frame).is_some();
        assert!(!is_plain_v4 || v4 == inner);
        assert!(!is_plain_v6 || v6 == inner);
        let expected = match (outer.version, inner.version) {
            (Version::V4, Version::V4) => (true, false),
            (Version::V6, Version::V6) => (false, true),
            _ => (false, false),
        };
        assert_eq!((is_plain_v4, is_plain_v6), expected);
    }
}

#[test]
fn all_parsers_agree_on_every_single_byte_changed_and_every_length() {
    for frame in frames() {
        for length in 0..=frame.len() {
            check_parsers(&frame[..length], frame.len());
            check_parsers(&frame[..length], length);
        }
        // Headers lie within the first 120 bytes.
        for at in 12..frame.len().min(120) {
            let mut frame = frame.clone();
            for value in 0..=u8::MAX {
                frame[at] = value;
                check_parsers(&frame, frame.len());
            }
        }
    }
}

/// The fuzzer's frames, which reach every branch of the parsers: as they are, cut at any length, and
/// with each of their first bytes changed.
#[test]
fn all_parsers_agree_on_the_frames_of_the_fuzzer() {
    /// Bytes of an input of the target `frame` before its frame.
    const SETUP: usize = 3;
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/frame");
    let mut kinds = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(corpus).unwrap() {
        let input = std::fs::read(file.unwrap().path()).unwrap();
        let frame = input.get(SETUP..).unwrap_or(&[]);
        kinds.insert(format!("{:?}", parsed_by_general(frame, frame.len()).kind));
        for length in 0..=frame.len() {
            check_parsers(&frame[..length], frame.len());
            check_parsers(&frame[..length], length);
        }
        for at in 12..frame.len().min(80) {
            let mut frame = frame.to_vec();
            for value in [0, 1, 4, 6, 17, 41, 44, 0x40, 0x60, 0xf0, 0xff, !frame[at]] {
                frame[at] = value;
                check_parsers(&frame, frame.len());
            }
        }
    }
    for kind in ["Tcp", "Tunnel", "BadTunnel", "Icmp", "Fragment"] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
}

proptest::proptest! {
    /// The frames have some bytes changed, are cut short, padded, or spread over two segments.
    #[test]
    fn all_parsers_agree_on_any_frame(
        which in proptest::prelude::any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((12usize..100, proptest::prelude::any::<u8>()), 0..4),
        cut in proptest::option::of(0usize..160),
        contiguous in 20usize..160,
    ) {
        let frames = frames();
        let mut frame = frames[which.index(frames.len())].clone();
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if let Some(length) = cut {
            frame.resize(length, 0);
        }
        check_parsers(&frame[..contiguous.min(frame.len())], frame.len());
    }

    /// Bytes at random behind an EtherType of IP.
    #[test]
    fn all_parsers_agree_on_random_bytes(
        is_v6 in proptest::prelude::any::<bool>(),
        protocol in proptest::sample::select(vec![0u8, 1, 4, 6, 17, 41, 43, 44, 47, 58, 60]),
        mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 60..140),
    ) {
        bytes[12..15].copy_from_slice(if is_v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] });
        let (at, length) = if is_v6 { (20, 18) } else { (23, 16) };
        (bytes[at], bytes[length]) = (protocol, 0);
        check_parsers(&bytes, bytes.len());
    }
}
