//! Frames that are odd, foreign or broken.

use pipeline::verdict::Verdict;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::Packet;

/// Something that no gateway has a part in, made of a packet that it may well have one in.
#[derive(Clone, Copy, Debug)]
pub enum Foreign {
    /// Another EtherType.
    EtherType(u16, Verdict),
    /// Three VLAN tags.
    ManyVlans,
    /// Another IP protocol.
    Protocol(u8, Verdict),
    /// This in the IP fragment field of a UDP packet.
    Fragment(u16),
    /// The frame ends in the Ethernet header.
    CutEthernet(usize),
    /// The frame ends this many bytes into the IP header.
    CutIp(usize),
    /// Another first byte of the IP header.
    IpStart(u8, Verdict),
    /// Another IP total length.
    TotalLength(u16),
    /// Another TCP data offset.
    DataOffset(u8, Verdict),
}

impl Foreign {
    /// Any of them.
    pub fn any() -> impl Strategy<Value = Self> {
        let ethertypes = vec![
            (0x0806, Verdict::NonIp),
            (0x88cc, Verdict::NonIp),
            (0x0500, Verdict::NonIp),
            (0x86dd, Verdict::Ipv6),
        ];
        let protocols = vec![
            (17, Verdict::OtherProtocol),
            (47, Verdict::OtherProtocol),
            (1, Verdict::Icmp),
            (4, Verdict::ForeignTunnel),
            (41, Verdict::ForeignTunnel),
        ];
        let starts = vec![
            (0x55, Verdict::IpVersion),
            (0x65, Verdict::IpVersion),
            (0x44, Verdict::IpHeaderLength),
            (0x40, Verdict::IpHeaderLength),
        ];
        let offsets = vec![
            (0x00, Verdict::TcpDataOffset),
            (0x40, Verdict::TcpDataOffset),
            (0x60, Verdict::TcpTruncated),
            (0xf0, Verdict::TcpTruncated),
        ];
        prop_oneof![
            select(ethertypes).prop_map(|(value, verdict)| Self::EtherType(value, verdict)),
            Just(Self::ManyVlans),
            select(protocols).prop_map(|(value, verdict)| Self::Protocol(value, verdict)),
            select(vec![0x2000, 0x2001, 0x0001, 0x1fff]).prop_map(Self::Fragment),
            (0usize..14).prop_map(Self::CutEthernet),
            (0usize..20).prop_map(Self::CutIp),
            select(starts).prop_map(|(value, verdict)| Self::IpStart(value, verdict)),
            select(vec![0, 19, 0xffff]).prop_map(Self::TotalLength),
            select(offsets).prop_map(|(value, verdict)| Self::DataOffset(value, verdict)),
        ]
    }

    /// The packet spoilt so, and the verdict on it. The packet bears no TCP options or data.
    pub fn spoil(self, packet: &Packet) -> (Vec<u8>, Verdict) {
        let mut frame = packet.frame();
        let l3 = 14 + 4 * packet.vlans.len();
        let l4 = packet.header_len() - 20;
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        let verdict = match self {
            Self::EtherType(value, verdict) => {
                put(l3 - 2, &value.to_be_bytes());
                verdict
            }
            Self::ManyVlans => {
                frame.splice(12..12, [0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3]);
                Verdict::NonIp
            }
            Self::Protocol(value, verdict) => {
                put(l3 + 9, &[value]);
                verdict
            }
            Self::Fragment(value) => {
                put(l3 + 6, &value.to_be_bytes());
                put(l3 + 9, &[17]);
                Verdict::Fragment
            }
            Self::CutEthernet(length) => {
                frame.truncate(length);
                Verdict::EthernetTruncated
            }
            Self::CutIp(length) => {
                frame.truncate(l3 + length);
                Verdict::IpTruncated
            }
            Self::IpStart(value, verdict) => {
                put(l3, &[value]);
                verdict
            }
            Self::TotalLength(value) => {
                put(l3 + 2, &value.to_be_bytes());
                Verdict::IpTotalLength
            }
            Self::DataOffset(value, verdict) => {
                put(l4 + 12, &[value]);
                verdict
            }
        };
        (frame, verdict)
    }
}

/// TCP option areas: of every kind that keeps a tag off, and at random.
pub fn options() -> impl Strategy<Value = Vec<u8>> {
    let kinds = vec![2u8, 3, 4, 5, 8, 14, 19, 28, 29, 30, 34, 253, 254];
    let option = (select(kinds), vec(any::<u8>(), 0..9))
        .prop_map(|(kind, value)| [&[kind, value.len() as u8 + 2][..], &value].concat());
    let item = prop_oneof![
        4 => option,
        2 => Just(vec![1]),
        1 => Just(vec![0, 0]),
        1 => (any::<u8>(), 0u8..50).prop_map(|(kind, length)| vec![kind, length]),
    ];
    let random = vec(item, 0..6).prop_map(|items| {
        let mut area = items.concat();
        area.truncate(40);
        area.resize(area.len().next_multiple_of(4), 0);
        area
    });
    let special: Vec<Vec<u8>> = vec![
        vec![],
        vec![1; 32],
        vec![1; 36],
        vec![0; 40],
        vec![34, 2, 1, 1],
        vec![254, 4, 0xf9, 0x89],
        vec![253, 6, 0xf9, 0x89, 1, 2, 1, 1],
        [&[19, 18][..], &[7; 16], &[1, 1]].concat(),
        vec![29, 4, 0, 0],
        vec![253, 5, 0x4e, 0x52, 1, 1, 1, 1],
        vec![253, 4, 0x4e, 0x52],
        vec![253, 4, 0x4e, 0x53],
        vec![2, 4, 5, 0xb4, 8, 10, 0, 0],
        vec![3, 3, 7, 0, 0, 0, 0, 0],
        vec![3, 3, 7, 1, 1, 0, 8, 99],
    ];
    prop_oneof![1 => random, 2 => select(special)]
}
