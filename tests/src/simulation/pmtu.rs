//! Path MTU discovery (RFC 1191, RFC 8201), which smoltcp lacks. A host records the MTU from ICMP
//! errors about its connections, and splits larger segments, like TCP segmentation offload; smoltcp
//! retransmits the lost segment.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet,
    Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
};

use super::segment;
use super::station::Frame;

/// The smallest MTU of an IPv6 path that a host accepts (RFC 8201, section 4).
const LEAST_V6: u16 = 1280;
/// Header lengths of quoted packets.
const IPV4: usize = 20;
const IPV6: usize = 40;

/// A received ICMP "too big" error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig {
    /// Source of the quoted packet.
    pub from: SocketAddr,
    /// Its destination.
    pub to: SocketAddr,
    /// Its sequence number.
    pub sequence: u32,
    /// The reported MTU.
    pub mtu: u16,
}

/// Parses such an error. Returns `None` for other packets, and with a wrong checksum.
#[must_use]
pub fn read(frame: &[u8]) -> Option<TooBig> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            if packet.next_header() != IpProtocol::Icmp || !packet.verify_checksum() {
                return None;
            }
            let bytes = packet.payload();
            let icmp = Icmpv4Packet::new_checked(bytes).ok()?;
            let too_big = icmp.msg_type() == Icmpv4Message::DstUnreachable && icmp.msg_code() == 4;
            if !too_big || !icmp.verify_checksum() {
                return None;
            }
            let quote = bytes.get(8..)?;
            let ports = quote.get(IPV4..IPV4 + 8)?;
            let address = |at: usize| IpAddr::from([0, 1, 2, 3].map(|i| quote[at + i]));
            (quote[9] == 6).then(|| quoted(address(12), address(16), ports, u16_at(bytes, 6)))
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            if packet.next_header() != IpProtocol::Icmpv6 {
                return None;
            }
            let bytes = packet.payload();
            let icmp = Icmpv6Packet::new_checked(bytes).ok()?;
            if icmp.msg_type() != Icmpv6Message::PktTooBig
                || !icmp.verify_checksum(&packet.src_addr(), &packet.dst_addr())
            {
                return None;
            }
            let quote = bytes.get(8..)?;
            let ports = quote.get(IPV6..IPV6 + 8)?;
            let address = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&quote[at..at + 16]);
                IpAddr::from(octets)
            };
            (quote[6] == 6).then(|| quoted(address(8), address(24), ports, u16_at(bytes, 6)))
        }
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn quoted(from: IpAddr, to: IpAddr, tcp: &[u8], mtu: u16) -> TooBig {
    TooBig {
        from: SocketAddr::new(from, u16_at(tcp, 0)),
        to: SocketAddr::new(to, u16_at(tcp, 2)),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        mtu,
    }
}

/// Both ends of a connection: the host's first.
type Pair = (SocketAddr, SocketAddr);

/// The path MTUs of a host.
#[derive(Debug, Default)]
pub struct Paths {
    mtu: BTreeMap<Pair, u16>,
    /// The last byte that was sent, by connection.
    sent: BTreeMap<Pair, u32>,
    /// Errors about packets that the host has not sent.
    pub wrong: Vec<String>,
    /// Number of errors.
    pub errors: u64,
}

impl Paths {
    /// Records an error.
    pub fn note(&mut self, error: TooBig) {
        self.errors += 1;
        let pair = (error.from, error.to);
        match self.sent.get(&pair) {
            Some(last) if last.wrapping_sub(error.sequence) < 1 << 20 => {}
            sent => self.wrong.push(format!("{error:?}, of what was sent up to {sent:?}")),
        }
        let believed = error.from.is_ipv4() || error.mtu >= LEAST_V6;
        if believed {
            let mtu = self.mtu.entry(pair).or_insert(error.mtu);
            *mtu = error.mtu.min(*mtu);
        }
    }

    /// Splits frames to their path MTU.
    pub fn cut(&mut self, frames: Vec<Frame>) -> Vec<Frame> {
        let mut cut = Vec::with_capacity(frames.len());
        for frame in frames {
            let Some(segment) = segment::read(&frame) else {
                cut.push(frame);
                continue;
            };
            let pair = (segment.from, segment.to);
            let end = segment.sequence.wrapping_add(segment.length);
            let last = self.sent.entry(pair).or_insert(end);
            if segment.syn || !segment.rst && end.wrapping_sub(*last) < 1 << 31 {
                *last = end;
            }
            match self.mtu.get(&pair) {
                Some(mtu) if frame.len() - ETHERNET_HEADER_LEN > usize::from(*mtu) => {
                    split(&frame, usize::from(*mtu), &mut cut);
                }
                _ => cut.push(frame),
            }
        }
        cut
    }
}

/// Splits a segment into packets of at most `mtu` bytes.
fn split(frame: &[u8], mtu: usize, cut: &mut Vec<Frame>) {
    let v4 = frame[ETHERNET_HEADER_LEN] >> 4 == 4;
    let tcp_at = ETHERNET_HEADER_LEN + if v4 { IPV4 } else { IPV6 };
    let header = tcp_at + usize::from(frame[tcp_at + 12] >> 4) * 4;
    let room = mtu - (header - ETHERNET_HEADER_LEN);
    let data = &frame[header..];
    for (number, part) in data.chunks(room).enumerate() {
        let last = (number + 1) * room >= data.len();
        let mut packet = [&frame[..header], part].concat();
        let ends = address_ends(&mut packet, v4);
        let mut tcp = TcpPacket::new_unchecked(&mut packet[tcp_at..]);
        tcp.set_seq_number(tcp.seq_number() + number * room);
        tcp.set_fin(tcp.fin() && last);
        tcp.set_psh(tcp.psh() && last);
        tcp.fill_checksum(&ends.0, &ends.1);
        cut.push(packet);
    }
}

/// Sets the length in an IP header to that of the frame. Returns both addresses.
fn address_ends(frame: &mut [u8], v4: bool) -> (IpAddress, IpAddress) {
    let length = (frame.len() - ETHERNET_HEADER_LEN) as u16;
    let ip = &mut frame[ETHERNET_HEADER_LEN..];
    if v4 {
        let mut packet = Ipv4Packet::new_unchecked(ip);
        packet.set_total_len(length);
        packet.fill_checksum();
        (IpAddress::Ipv4(packet.src_addr()), IpAddress::Ipv4(packet.dst_addr()))
    } else {
        let mut packet = Ipv6Packet::new_unchecked(ip);
        packet.set_payload_len(length - IPV6 as u16);
        (IpAddress::Ipv6(packet.src_addr()), IpAddress::Ipv6(packet.dst_addr()))
    }
}
