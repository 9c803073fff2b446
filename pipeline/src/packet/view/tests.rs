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

proptest::proptest! {
    /// The fast parser returns the same view as the general one, or none. The frames are common
    /// ones with some bytes changed, cut short, padded, or spread over two segments.
    #[test]
    fn the_fast_parser_agrees_with_the_general_one(
        which in 0usize..5,
        changes in proptest::collection::vec((12usize..74, proptest::prelude::any::<u8>()), 0..3),
        cut in proptest::option::of(0usize..90),
        contiguous in 20usize..120,
    ) {
        let tcp = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).payload(&[5; 9]);
        let tunnelled = |format| {
            let ends = ("203.0.113.10", "198.51.100.10");
            testing::ethernet_frame(tcp.macs, &testing::tunnel_in(format, ends, (0, 7), &tcp.packet()))
        };
        let mut frame = match which {
            0 => tcp.frame(),
            1 => tunnelled(Format::Ipip),
            2 => tunnelled(Format::Gue),
            3 => tunnelled(Format::Gre),
            _ => {
                let mut frame = tcp.frame();
                frame[23] = 17;
                frame
            }
        };
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if let Some(length) = cut {
            frame.resize(length, 0);
        }
        let head = &frame[..contiguous.min(frame.len())];
        let general = View::parse_any(head, frame.len());
        if let Some(fast) = View::plain(head, frame.len()) {
            proptest::prop_assert_eq!(fast, general);
        }
        let mut parsed = View::NOTHING;
        let plain = parsed.parse_in_place(head, frame.len());
        proptest::prop_assert_eq!((parsed, plain), (general, plain && general.is_plain::<V4>()));
        if general.kind == Kind::Tunnel {
            let mut inner = View::NOTHING;
            inner.parse_inner(&general, head);
            proptest::prop_assert_eq!(inner, general.inner_any(head));
        }
    }
}
