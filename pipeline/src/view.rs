//! One look at a packet: where its headers are and what kind it is. Parsed once on receipt,
//! again only after a header was put on or taken off.

use std::marker::PhantomData;
use std::net::IpAddr;

use crate::buffer::Buffer;
use crate::family::{Endpoint, Family, V4, V6, Version};
use crate::verdict::Verdict;
use crate::wire::{arp::Arp, ethernet, ipv4, ipv6, tcp, tunnel};

/// The side of the appliance that a packet came in by or leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Clients, origin servers, web servers.
    Inside,
    /// The WAN.
    Outside,
}

impl Side {
    /// Both sides, in the order of their counters.
    pub const ALL: [Side; 2] = [Side::Inside, Side::Outside];

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Side::Inside => Side::Outside,
            Side::Outside => Side::Inside,
        }
    }

    /// Its name in configuration, counters and file names.
    pub fn name(self) -> &'static str {
        match self {
            Side::Inside => "inside",
            Side::Outside => "outside",
        }
    }
}

/// What a packet is, as far as any role needs to know; [`View::version`] says of which family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole TCP.
    Tcp,
    /// A tunnel whose header can be followed, not a fragment.
    Tunnel,
    /// What calls itself a tunnel, and cannot be followed.
    BadTunnel,
    /// ICMP, not a fragment.
    Icmp,
    /// The first fragment of a TCP packet, the whole TCP header in it.
    FirstFragment,
    /// Any other fragment.
    Fragment,
    /// ARP for IPv4 over Ethernet.
    Arp,
    /// Nothing that any role acts upon; the verdict says what it is.
    Other(Verdict),
}

impl Kind {
    /// The verdict on a packet of this kind that no role has a part in.
    pub fn untouched(self) -> Verdict {
        match self {
            Kind::Tcp => Verdict::NoEntry,
            Kind::Tunnel | Kind::BadTunnel => Verdict::ForeignTunnel,
            Kind::Icmp => Verdict::Icmp,
            Kind::FirstFragment | Kind::Fragment => Verdict::Fragment,
            Kind::Arp => Verdict::NonIp,
            Kind::Other(verdict) => verdict,
        }
    }
}

/// Offsets into the frame, from its first byte. Aligned so that it is copied in one piece: loads
/// from one that was stored in several wait for the stores (benchmark `roles`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(16))]
pub struct View {
    /// IP header.
    pub l3: u16,
    /// Header of what IP carries, behind options and extension headers.
    pub l4: u16,
    /// First byte of the TCP payload; of a tunnel, of the IP packet in it.
    pub payload: u16,
    /// One past the IP packet's last byte; what follows in the frame is padding.
    pub end: u32,
    /// Its family.
    pub version: Version,
    /// What the packet is.
    pub kind: Kind,
}

impl View {
    /// The view of no frame at all.
    pub(crate) const NOTHING: Self = Self {
        l3: 0,
        l4: 0,
        payload: 0,
        end: 0,
        version: Version::V4,
        kind: Kind::Other(Verdict::EthernetTruncated),
    };

    /// Becomes another view, field by field: as a whole that would go by way of a temporary whose
    /// bytes are stored in smaller pieces than they are loaded in, and the loads would wait for the
    /// stores (a quarter of a packet's time in benchmark `whole_path`).
    #[inline(always)]
    pub(crate) fn put(&mut self, other: Self) {
        let Self { l3, l4, payload, end, version, kind } = other;
        (self.l3, self.l4, self.payload, self.end) = (l3, l4, payload, end);
        (self.version, self.kind) = (version, kind);
    }

    /// Looks at a frame as [`View::parse`] does; whether it is [`View::is_plain`] IPv4.
    #[inline(always)]
    pub(crate) fn look(&mut self, head: &[u8], frame_len: usize) -> bool {
        match Self::plain(head, frame_len) {
            Some(view) => {
                self.put(view);
                view.kind == Kind::Tcp
            }
            None => {
                self.put(Self::parse_any(head, frame_len));
                false
            }
        }
    }

    /// Looks at what is in the tunnel that `outer` shows, as [`View::inner`] does.
    #[inline(always)]
    pub(crate) fn look_inside(&mut self, outer: &Self, head: &[u8]) {
        match Self::plain_tcp(head, outer.end as usize, usize::from(outer.payload)) {
            Some(view) => self.put(view),
            None => self.put(outer.inner_any(head)),
        }
    }

    /// Source and destination address of the IP packet whose first segment is `head`.
    pub fn addresses(&self, head: &[u8]) -> (IpAddr, IpAddr) {
        fn of<F: Family>(ip: &[u8]) -> (IpAddr, IpAddr) {
            (F::source(ip).into(), F::destination(ip).into())
        }
        let ip = &head[usize::from(self.l3)..];
        match self.version {
            Version::V4 => of::<V4>(ip),
            Version::V6 => of::<V6>(ip),
        }
    }

    /// Source endpoint of the TCP packet whose first segment is `head`.
    #[inline(always)]
    pub fn source<F: Family>(&self, head: &[u8]) -> Endpoint<F> {
        let port = tcp::source_port(&head[usize::from(self.l4)..]);
        Endpoint::new(F::source(&head[usize::from(self.l3)..]), port)
    }

    /// Destination endpoint likewise.
    #[inline(always)]
    pub fn destination<F: Family>(&self, head: &[u8]) -> Endpoint<F> {
        let port = tcp::destination_port(&head[usize::from(self.l4)..]);
        Endpoint::new(F::destination(&head[usize::from(self.l3)..]), port)
    }

    /// Reads the headers of a frame of `frame_len` bytes of which `head` is contiguous.
    #[inline(always)]
    pub fn parse(head: &[u8], frame_len: usize) -> Self {
        match Self::plain(head, frame_len) {
            Some(view) => view,
            None => Self::parse_any(head, frame_len),
        }
    }

    /// The look at what nearly all frames are, by a few comparisons: TCP over IPv4 without options,
    /// whole, in Ethernet without tags, or an IPv4 packet in such a one. `None` for all others,
    /// malformed ones among them.
    #[inline(always)]
    fn plain(head: &[u8], frame_len: usize) -> Option<Self> {
        let bytes: &[u8; ethernet::HEADER + ipv4::HEADER + 1] = head.first_chunk()?;
        if bytes[ethernet::HEADER - 2..ethernet::HEADER] != ethernet::IPV4.to_be_bytes() {
            return None;
        }
        match bytes[ethernet::HEADER + ipv4::PROTOCOL] {
            ipv4::TCP => Self::plain_tcp(head, frame_len, ethernet::HEADER),
            ipv4::IPIP => Self::plain_tunnel(bytes, frame_len),
            tunnel::UDP => Self::plain_udp(head, frame_len),
            _ => None,
        }
    }

    /// Of UDP that is no tunnel.
    #[inline(always)]
    fn plain_udp(head: &[u8], frame_len: usize) -> Option<Self> {
        let bytes: &[u8; ethernet::HEADER + ipv4::HEADER + tunnel::UDP_HEADER] =
            head.first_chunk()?;
        let (ip, udp) = bytes[ethernet::HEADER..].split_at(ipv4::HEADER);
        let total = usize::from(ipv4::total_length(ip));
        let is_plain = ipv4::is_plain(ip, tunnel::UDP)
            && !tunnel::is_gue(udp)
            && (ipv4::HEADER..=frame_len - ethernet::HEADER).contains(&total);
        is_plain.then_some(Self {
            l3: ethernet::HEADER as u16,
            l4: (ethernet::HEADER + ipv4::HEADER) as u16,
            payload: (ethernet::HEADER + ipv4::HEADER) as u16,
            end: (ethernet::HEADER + total) as u32,
            version: Version::V4,
            kind: Kind::Other(Verdict::OtherProtocol),
        })
    }

    /// Of a frame whose outer header and the byte behind it these are.
    #[inline(always)]
    fn plain_tunnel(
        bytes: &[u8; ethernet::HEADER + ipv4::HEADER + 1],
        frame_len: usize,
    ) -> Option<Self> {
        const INNER: usize = ethernet::HEADER + ipv4::HEADER;
        let ip = &bytes[ethernet::HEADER..];
        let end = ethernet::HEADER + usize::from(ipv4::total_length(ip));
        let is_plain = ipv4::is_plain(ip, ipv4::IPIP)
            && bytes[INNER] >> 4 == 4
            && (INNER + 1..=frame_len).contains(&end);
        is_plain.then_some(Self {
            l3: ethernet::HEADER as u16,
            l4: INNER as u16,
            payload: INNER as u16,
            end: end as u32,
            version: Version::V4,
            kind: Kind::Tunnel,
        })
    }

    /// Likewise of an IP packet that begins at `l3` and ends at `limit` at the latest.
    #[inline(always)]
    fn plain_tcp(head: &[u8], limit: usize, l3: usize) -> Option<Self> {
        let headers: &[u8; ipv4::HEADER + tcp::HEADER] = head.get(l3..)?.first_chunk()?;
        let (ip, tcp) = headers.split_at(ipv4::HEADER);
        let total = usize::from(ipv4::total_length(ip));
        let header = tcp::header_length(tcp);
        let l4 = l3 + ipv4::HEADER;
        let is_plain = ipv4::is_plain(ip, ipv4::TCP)
            && header >= tcp::HEADER
            && ipv4::HEADER + header <= total
            && l3 + total <= limit
            && l4 + header <= head.len();
        is_plain.then_some(Self {
            l3: l3 as u16,
            l4: l4 as u16,
            payload: (l4 + header) as u16,
            end: (l3 + total) as u32,
            version: Version::V4,
            kind: Kind::Tcp,
        })
    }

    /// Whether it is TCP, headers at the places that they have in a frame without VLAN tags, IP
    /// options and extension headers.
    #[inline(always)]
    pub fn is_plain<F: Family>(&self) -> bool {
        self.kind == Kind::Tcp
            && self.version == F::VERSION
            && usize::from(self.l3) == ethernet::HEADER
            && usize::from(self.l4) == ethernet::HEADER + F::HEADER
    }

    /// The view of such a frame, whose lengths `self` tells: the compiler knows the rest.
    #[inline(always)]
    pub(crate) fn as_plain<F: Family>(&self) -> Self {
        Self {
            l3: ethernet::HEADER as u16,
            l4: (ethernet::HEADER + F::HEADER) as u16,
            payload: self.payload,
            end: self.end,
            version: F::VERSION,
            kind: Kind::Tcp,
        }
    }

    /// Of a tunnel that adds nothing but an IPv4 header to plain TCP over IPv4, in a frame without
    /// tags: its view and that of what is in it, most of which the compiler knows.
    #[inline(always)]
    pub(crate) fn as_plain_tunnel(&self, inner: &Self) -> Option<(Self, Self)> {
        const OUTER: u16 = ethernet::HEADER as u16;
        const INNER: u16 = OUTER + ipv4::HEADER as u16;
        const TCP: u16 = INNER + ipv4::HEADER as u16;
        let places = (self.l3, self.payload, inner.l3, inner.l4);
        let versions = (self.version, inner.version);
        if places != (OUTER, INNER, INNER, TCP) || versions != (Version::V4, Version::V4) {
            return None;
        }
        let (kind, version) = (Kind::Tunnel, Version::V4);
        let outer = Self { l3: OUTER, l4: INNER, payload: INNER, end: self.end, version, kind };
        let (payload, end, kind) = (inner.payload, inner.end, Kind::Tcp);
        Some((outer, Self { l3: INNER, l4: TCP, payload, end, version, kind }))
    }

    /// Reads the headers of any frame.
    #[inline(never)]
    fn parse_any(head: &[u8], frame_len: usize) -> Self {
        let Some((ethertype, l3)) = ethernet::parse(head) else {
            return Self::other(Verdict::EthernetTruncated);
        };
        match ethertype {
            ethernet::IPV4 => Self::parse_ip(head, frame_len, l3, Version::V4),
            ethernet::IPV6 => Self::parse_ip(head, frame_len, l3, Version::V6),
            ethernet::ARP if Arp::parse(&head[l3..]).is_some() => Self {
                l3: l3 as u16,
                l4: l3 as u16,
                end: frame_len as u32,
                kind: Kind::Arp,
                ..Self::NOTHING
            },
            _ => Self::other(Verdict::NonIp),
        }
    }

    /// The packet in a tunnel: the same frame, seen from the inner header on.
    #[inline(always)]
    pub fn inner(&self, head: &[u8]) -> Self {
        let at = usize::from(self.payload);
        match Self::plain_tcp(head, self.end as usize, at) {
            Some(view) => view,
            None => self.inner_any(head),
        }
    }

    #[inline(never)]
    fn inner_any(&self, head: &[u8]) -> Self {
        let at = usize::from(self.payload);
        match head.get(at).map(|byte| byte >> 4) {
            Some(4) => Self::parse_ip(head, self.end as usize, at, Version::V4),
            Some(6) => Self::parse_ip(head, self.end as usize, at, Version::V6),
            _ => Self::other(Verdict::IpTruncated),
        }
    }

    fn other(verdict: Verdict) -> Self {
        Self { kind: Kind::Other(verdict), ..Self::NOTHING }
    }

    /// Reads an IP packet that begins at `l3` and ends at `limit` at the latest.
    #[inline(always)]
    fn parse_ip(head: &[u8], limit: usize, l3: usize, version: Version) -> Self {
        match version {
            Version::V4 => Self::parse_ipv4(head, limit, l3),
            // Where the packet is stays known: a tunnel's owner may want to say what was in it.
            Version::V6 => Self::parse_ipv6(head, limit, l3).unwrap_or_else(|verdict| Self {
                l3: l3 as u16,
                version,
                ..Self::other(verdict)
            }),
        }
    }

    #[inline(always)]
    fn parse_ipv4(head: &[u8], limit: usize, l3: usize) -> Self {
        let ip = &head[l3..];
        let (header, total) = match ipv4::check(ip, limit.saturating_sub(l3)) {
            Ok(lengths) => lengths,
            Err(error) => return Self { l3: l3 as u16, ..Self::malformed_ipv4(error) },
        };
        let l4 = l3 + header;
        let view = Self {
            l3: l3 as u16,
            l4: l4 as u16,
            payload: l4 as u16,
            end: (l3 + total) as u32,
            version: Version::V4,
            kind: Kind::Fragment,
        };
        if ipv4::is_fragment(ip) {
            let is_first = ipv4::protocol(ip) == ipv4::TCP && !ipv4::is_later_fragment(ip);
            return if is_first { view.first_fragment(head) } else { view };
        }
        match ipv4::protocol(ip) {
            ipv4::TCP => view.carrying_tcp(head),
            protocol => view.carrying(head, protocol, ipv4::ICMP),
        }
    }

    #[cold]
    fn malformed_ipv4(error: ipv4::Malformed) -> Self {
        Self::other(match error {
            ipv4::Malformed::Truncated => Verdict::IpTruncated,
            ipv4::Malformed::Version => Verdict::IpVersion,
            ipv4::Malformed::HeaderLength => Verdict::IpHeaderLength,
            ipv4::Malformed::TotalLength => Verdict::IpTotalLength,
        })
    }

    fn parse_ipv6(head: &[u8], limit: usize, l3: usize) -> Result<Self, Verdict> {
        let ip = &head[l3..];
        let malformed = |error| match error {
            ipv6::Malformed::Truncated => Verdict::IpTruncated,
            ipv6::Malformed::Version => Verdict::IpVersion,
            ipv6::Malformed::PayloadLength => Verdict::IpTotalLength,
            ipv6::Malformed::Extensions => Verdict::Ipv6Extensions,
        };
        let total = ipv6::check(ip, limit.saturating_sub(l3)).map_err(malformed)?;
        let chain = ipv6::walk(ip, total).map_err(malformed)?;
        let l4 = l3 + chain.offset;
        if l4 > head.len() {
            return Err(Verdict::Ipv6Extensions);
        }
        let view = Self {
            l3: l3 as u16,
            l4: l4 as u16,
            payload: l4 as u16,
            end: (l3 + total) as u32,
            version: Version::V6,
            kind: Kind::Fragment,
        };
        if let Some(fragment) = chain.fragment {
            let is_first = chain.protocol == ipv4::TCP && !ipv6::is_later_fragment(ip, fragment);
            return Ok(if is_first { view.first_fragment(head) } else { view });
        }
        Ok(match chain.protocol {
            ipv4::TCP => view.carrying_tcp(head),
            protocol => view.carrying(head, protocol, ipv6::ICMP),
        })
    }

    /// Of a first fragment: has it the whole TCP header?
    fn first_fragment(self, head: &[u8]) -> Self {
        let available = self.end as usize - usize::from(self.l4);
        match tcp::check(&head[usize::from(self.l4)..], available) {
            Ok(tcp) => Self { payload: self.l4 + tcp as u16, kind: Kind::FirstFragment, ..self },
            Err(_) => self,
        }
    }

    /// Of a whole TCP packet.
    #[inline(always)]
    fn carrying_tcp(self, head: &[u8]) -> Self {
        let l4 = usize::from(self.l4);
        let verdict = match tcp::check(&head[l4..], self.end as usize - l4) {
            Ok(tcp) => return Self { payload: (l4 + tcp) as u16, kind: Kind::Tcp, ..self },
            Err(tcp::Malformed::Truncated) => Verdict::TcpTruncated,
            Err(tcp::Malformed::DataOffset) => Verdict::TcpDataOffset,
        };
        Self { kind: Kind::Other(verdict), ..self }
    }

    /// Of a whole packet that carries this protocol, which is not TCP.
    fn carrying(self, head: &[u8], protocol: u8, icmp: u8) -> Self {
        if protocol == icmp {
            return Self { kind: Kind::Icmp, ..self };
        }
        let l4 = usize::from(self.l4);
        match tunnel::parse(protocol, &head[l4..], self.end as usize - l4) {
            None => Self { kind: Kind::Other(Verdict::OtherProtocol), ..self },
            Some(Err(tunnel::Unreadable)) => Self { kind: Kind::BadTunnel, ..self },
            Some(Ok(header)) => {
                let payload = l4 + header.length;
                let nibble = head.get(payload).map(|byte| byte >> 4);
                let expected = if header.inner == Version::V4 { 4 } else { 6 };
                let sound = nibble == Some(expected) && payload < self.end as usize;
                let kind = if sound { Kind::Tunnel } else { Kind::BadTunnel };
                Self { payload: payload as u16, kind, ..self }
            }
        }
    }
}

/// Headers at their usual places: the compiler knows these, and checks no bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers<'a, F> {
    bytes: &'a [u8],
    family: PhantomData<F>,
}

impl<'a, F: Family> Headers<'a, F> {
    const LENGTH: usize = ethernet::HEADER + F::HEADER + tcp::HEADER;

    /// Those of a frame that [`View::is_plain`] holds of.
    #[inline(always)]
    pub(crate) fn of(head: &'a [u8]) -> Option<Self> {
        Some(Self { bytes: head.get(..Self::LENGTH)?, family: PhantomData })
    }

    /// The fixed part of the TCP header.
    #[inline(always)]
    pub(crate) fn tcp(&self) -> &'a [u8] {
        &self.bytes[ethernet::HEADER + F::HEADER..]
    }

    /// Source endpoint.
    #[inline(always)]
    pub(crate) fn source(&self) -> Endpoint<F> {
        let address = F::source(&self.bytes[ethernet::HEADER..]);
        Endpoint::new(address, tcp::source_port(self.tcp()))
    }

    /// Destination endpoint.
    #[inline(always)]
    pub(crate) fn destination(&self) -> Endpoint<F> {
        let address = F::destination(&self.bytes[ethernet::HEADER..]);
        Endpoint::new(address, tcp::destination_port(self.tcp()))
    }
}

/// A frame and the look that was taken at it.
#[derive(Clone, Debug)]
pub struct Packet<B> {
    /// The frame.
    pub buffer: B,
    /// Where things are in it.
    pub view: View,
}

impl<B: Buffer> Packet<B> {
    /// Looks at a frame.
    #[inline]
    pub fn new(buffer: B) -> Self {
        let view = View::parse(buffer.head(), buffer.frame_len());
        Self { buffer, view }
    }

    /// A frame and the look that has been taken at it. The fields are copied one by one: as a
    /// whole they would go by way of a temporary whose bytes are stored and loaded in different
    /// pieces, and the loads would wait (benchmark `roles`).
    #[inline(always)]
    pub(crate) fn seen(buffer: B, view: &View) -> Self {
        let View { l3, l4, payload, end, version, kind } = *view;
        Self { buffer, view: View { l3, l4, payload, end, version, kind } }
    }

    /// Looks at the frame again, after its headers changed.
    pub fn look_again(&mut self) {
        self.view = View::parse(self.buffer.head(), self.buffer.frame_len());
    }

    /// Bytes from the IP header on.
    #[inline(always)]
    pub fn ip(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l3)..]
    }

    /// Bytes from the IP header on, to be changed.
    #[inline(always)]
    pub fn ip_mut(&mut self) -> &mut [u8] {
        let l3 = usize::from(self.view.l3);
        &mut self.buffer.head_mut()[l3..]
    }

    /// Bytes from the TCP header on, of a packet of kind [`Kind::Tcp`].
    #[inline(always)]
    pub fn tcp(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l4)..]
    }

    /// Bytes from the TCP header on, to be changed.
    #[inline(always)]
    pub fn tcp_mut(&mut self) -> &mut [u8] {
        let l4 = usize::from(self.view.l4);
        &mut self.buffer.head_mut()[l4..]
    }

    /// The TCP option area.
    pub fn options(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l4) + tcp::HEADER..usize::from(self.view.payload)]
    }

    /// Source endpoint of a TCP packet.
    #[inline]
    pub fn source<F: Family>(&self) -> Endpoint<F> {
        self.view.source(self.buffer.head())
    }

    /// Destination endpoint of a TCP packet.
    #[inline]
    pub fn destination<F: Family>(&self) -> Endpoint<F> {
        self.view.destination(self.buffer.head())
    }

    /// Whether TCP data follows the header.
    pub fn has_data(&self) -> bool {
        self.view.end > u32::from(self.view.payload)
    }

    /// Whether the IP header's checksum is right; IPv6 has none.
    #[inline(always)]
    pub fn ip_checksum_ok(&self) -> bool {
        let header = usize::from(self.view.l4 - self.view.l3);
        match self.view.version {
            Version::V4 => V4::header_ok(self.ip(), header),
            Version::V6 => V6::header_ok(self.ip(), header),
        }
    }

    /// Whether the TCP checksum is right. A segment spread over several buffer segments counts
    /// as wrong: none that may decide anything is that long.
    pub fn tcp_checksum_ok<F: Family>(&self) -> bool {
        let Some(segment) =
            self.buffer.head().get(usize::from(self.view.l4)..self.view.end as usize)
        else {
            return false;
        };
        let ip = self.ip();
        let (from, to) = (F::source(ip), F::destination(ip));
        tcp::checksum_ok(segment, F::pseudo_header(from, to, ipv4::TCP, segment.len()))
    }

    /// Length of the IP packet in bytes, padding of the frame not included.
    #[inline(always)]
    pub fn ip_len(&self) -> usize {
        self.view.end as usize - usize::from(self.view.l3)
    }
}

#[cfg(test)]
mod tests;
