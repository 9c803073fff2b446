//! ICMP errors that quote a connection's packets, and fragments of its packets.

use std::net::IpAddr;

use firstack_packets::{
    Body, Content, Extension, Header, Icmp, Ip, Payload, Wrong, icmp as protocol,
};

use super::Packet;
use super::tunnel::{Outer, overhead};

/// Bytes of TCP payload in the first of two fragments.
const FIRST: usize = 12;
/// Protocol number of TCP.
const TCP: u8 = 6;
/// Bytes of an ICMP header.
const ICMP_HEADER: usize = 8;
/// Bytes of a packet that a "too big" error quotes, by family.
const QUOTED: [usize; 2] = [576 - 20 - ICMP_HEADER, 1280 - 40 - ICMP_HEADER];

/// An ICMP message in the format of an error.
#[derive(Clone, Debug)]
pub struct IcmpError {
    /// Sender.
    pub from: IpAddr,
    /// Receiver.
    pub to: IpAddr,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The second word: the MTU of a "too big".
    pub mtu: u16,
    /// The quoted packet.
    pub quoted: Packet,
    /// The tunnel of the quoted packet, if it was in one.
    pub tunnel: Option<Outer>,
    /// Quoted bytes behind the IP header, with a tunnel the inner one.
    pub bytes: usize,
}

impl IcmpError {
    /// Returns whether it is an error that quotes enough.
    pub fn is_sound(&self) -> bool {
        let is_error = match self.quoted.is_v6() {
            true => matches!(self.kind, 1..=4),
            false => matches!(self.kind, 3 | 4 | 5 | 11 | 12),
        };
        is_error && self.bytes >= 8
    }

    /// Returns whether it is a "too big" error.
    pub fn is_too_big(&self) -> bool {
        let expected = if self.quoted.is_v6() { (2, self.code) } else { (3, 4) };
        (self.kind, self.code) == expected
    }

    /// Returns the error about the packet without its tunnel. The MTU is reduced by the tunnel's
    /// overhead.
    #[must_use]
    pub fn peeled(&self) -> Self {
        let mut peeled = self.clone();
        if let Some(outer) = peeled.tunnel.take().filter(|_| self.is_too_big()) {
            peeled.mtu -= overhead(outer.format, outer.from.is_ipv6()) as u16;
        }
        peeled
    }

    /// Returns the Ethernet frame, in the quoted packet's VLAN.
    pub fn frame(&self) -> Vec<u8> {
        let start = self.quoted.l3();
        let whole = self.quoted.frame();
        let mut end = start + self.quoted.ip_header_len() + self.bytes;
        let quoted = match &self.tunnel {
            None => whole,
            Some(outer) => {
                end += overhead(outer.format, outer.from.is_ipv6());
                outer.around(&whole)
            }
        };
        let kind = (self.kind, self.code);
        icmp(&self.quoted, (self.from, self.to), kind, self.mtu.into(), &quoted[start..end])
    }
}

/// Returns a frame with an ICMP message: type and code, second word, and data. `packet` has the
/// MAC addresses and VLAN tags.
pub fn icmp(
    packet: &Packet,
    (from, to): (IpAddr, IpAddr),
    (kind, code): (u8, u8),
    word: u32,
    data: &[u8],
) -> Vec<u8> {
    let protocol = if from.is_ipv6() { protocol::V6 } else { protocol::V4 };
    let content = Content { data: data.to_vec(), ..Content::default() };
    let message = Icmp { protocol, kind, code, word, content, bad_checksum: false };
    packet.ethernet(Body::Ip(Ip::new(from, to, Payload::Icmp(message)))).bytes()
}

/// Sets data and DF of a packet to be fragmented, by its identification. With an even one the
/// second fragment fits no tunnel.
pub fn fragmented(packet: &mut Packet, id: u16) {
    packet.id = id;
    packet.payload = vec![0x5a; if id.is_multiple_of(2) { 1400 } else { 21 }];
    packet.dont_fragment = packet.is_v6() || id.is_multiple_of(4);
}

/// Returns the appliance's error to the sender of a packet that exceeds its tunnel's inner MTU.
pub fn too_big(packet: &Packet, mtu: usize) -> Vec<u8> {
    about_too_big(packet, &packet.frame()[packet.l3()..], mtu)
}

fn about_too_big(packet: &Packet, ip: &[u8], mtu: usize) -> Vec<u8> {
    let back = Packet { macs: (packet.macs.1, packet.macs.0), ..packet.clone() };
    let quoted = &ip[..ip.len().min(QUOTED[usize::from(packet.is_v6())])];
    let kind = if packet.is_v6() { (2, 0) } else { (3, 4) };
    let word = u32::try_from(mtu).expect("short");
    icmp(&back, (packet.to.ip(), packet.from.ip()), kind, word, quoted)
}

/// Returns the first or second fragment of a packet with more than 12 bytes of data.
pub fn fragment(packet: &Packet, first: bool) -> Vec<u8> {
    let (at, part) = half(packet, first);
    fragment_of(packet, at, &part, first)
}

/// Returns offset and bytes of one of these fragments.
fn half(packet: &Packet, first: bool) -> (usize, Vec<u8>) {
    let cut = 20 + packet.options.len() + FIRST;
    let whole = packet.frame();
    let behind = &whole[packet.l3() + packet.ip_header_len()..];
    if first { (0, behind[..cut].to_vec()) } else { (cut, behind[cut..].to_vec()) }
}

/// Returns how one of these fragments passes a tunnel with this inner MTU.
pub fn through_tunnel(packet: &Packet, first: bool, room: usize) -> Fitting {
    let whole = fragment(packet, first);
    if whole.len() - packet.l3() <= room {
        return Fitting::Whole(whole);
    }
    if !packet.is_v6() && !packet.dont_fragment {
        let (at, part) = half(packet, first);
        return Fitting::Pieces(pieces(packet, at, &part, first, room));
    }
    if !packet.is_v6() && !first {
        return Fitting::Unanswered;
    }
    Fitting::Answered(about_too_big(packet, &whole[packet.l3()..], room))
}

/// How a fragment passes a tunnel.
#[derive(Debug)]
pub enum Fitting {
    /// Whole.
    Whole(Vec<u8>),
    /// In smaller fragments.
    Pieces(Vec<Vec<u8>>),
    /// Dropped. Its sender gets this error.
    Answered(Vec<u8>),
    /// Dropped without an error.
    Unanswered,
}

/// Returns an IPv4 packet in fragments of at most `mtu` bytes.
pub fn fragments(packet: &Packet, mtu: usize) -> Vec<Vec<u8>> {
    let whole = packet.frame();
    let behind = &whole[packet.l3() + packet.ip_header_len()..];
    pieces(packet, 0, behind, false, mtu)
}

/// Returns the fragments of a part of its payload that begins at `at`. `more` tells whether more
/// follows.
fn pieces(packet: &Packet, at: usize, all: &[u8], more: bool, mtu: usize) -> Vec<Vec<u8>> {
    let part = (mtu - packet.ip_header_len()) / 8 * 8;
    let pieces = all.chunks(part).enumerate();
    pieces
        .map(|(n, bytes)| {
            let more = more || n * part + bytes.len() < all.len();
            fragment_of(packet, at + n * part, bytes, more)
        })
        .collect()
}

/// Returns the fragment with these bytes of the packet's payload, which begin at `at`.
fn fragment_of(packet: &Packet, at: usize, bytes: &[u8], more: bool) -> Vec<u8> {
    assert_eq!(at % 8, 0, "fragments are cut at multiples of 8");
    let mut ip = packet.ip();
    (ip.mf, ip.offset) = (more, u16::try_from(at).expect("short"));
    (ip.payload, ip.wrong) = (Payload::Other(TCP, bytes.to_vec()), Wrong::default());
    if let Header::V6 { extensions, .. } = &mut ip.header {
        // Behind the hop-by-hop header, when there is one.
        extensions.push(Extension::Fragment);
    }
    packet.ethernet(Body::Ip(ip)).bytes()
}
