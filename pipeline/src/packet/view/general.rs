//! The parser for every frame, which takes over where the fast one gives up. It stores the fields
//! where the view stays.

use super::{Kind, View};
use crate::verdict::Verdict;
use crate::wire::family::Version;
use crate::wire::{arp::Arp, ethernet, ipv4, ipv6, tcp, tunnel};

impl View {
    /// Parses the headers of any frame, without the shortcuts for common ones.
    #[inline(never)]
    pub(super) fn parse_any(&mut self, head: &[u8], frame_len: usize) {
        let Some((ethertype, l3)) = ethernet::parse(head) else {
            return self.assign(Self::other(Verdict::EthernetTruncated));
        };
        match ethertype {
            ethernet::IPV4 => self.parse_ipv4(head, frame_len, l3),
            ethernet::IPV6 => self.parse_ipv6(head, frame_len, l3),
            ethernet::ARP if Arp::parse(&head[l3..]).is_some() => self.assign(Self {
                l3: l3 as u16,
                l4: l3 as u16,
                end: frame_len as u32,
                kind: Kind::Arp,
                ..Self::NOTHING
            }),
            _ => self.assign(Self::other(Verdict::NonIp)),
        }
    }

    /// Parses the inner packet of any tunnel, without the shortcuts for common ones.
    #[inline(never)]
    pub(super) fn parse_any_inner(&mut self, outer: &Self, head: &[u8]) {
        let (limit, at) = (outer.end as usize, usize::from(outer.payload));
        match head.get(at).map(|byte| byte >> 4) {
            Some(4) => self.parse_ipv4(head, limit, at),
            Some(6) => self.parse_ipv6(head, limit, at),
            _ => self.assign(Self::other(Verdict::IpTruncated)),
        }
    }

    fn other(verdict: Verdict) -> Self {
        Self { kind: Kind::Other(verdict), ..Self::NOTHING }
    }

    /// Parses an IPv4 packet that starts at `l3` and ends at `limit` or before.
    #[inline(always)]
    fn parse_ipv4(&mut self, head: &[u8], limit: usize, l3: usize) {
        let ip = &head[l3..];
        let (header, total) = match ipv4::check(ip, limit.saturating_sub(l3)) {
            Ok(lengths) => lengths,
            Err(error) => return self.assign(Self::malformed(l3, Version::V4, of_ipv4(error))),
        };
        self.carrying_something(l3, (header, total), Version::V4);
        let protocol = ipv4::protocol(ip);
        if ipv4::is_fragment(ip) {
            if protocol == ipv4::TCP && !ipv4::is_later_fragment(ip) {
                self.first_fragment(head);
            }
            return;
        }
        match protocol {
            ipv4::TCP => self.carrying_tcp(head),
            _ => self.carrying(head, protocol, ipv4::ICMP),
        }
    }

    /// Parses an IPv6 packet that starts at `l3` and ends at `limit` or before.
    fn parse_ipv6(&mut self, head: &[u8], limit: usize, l3: usize) {
        let ip = &head[l3..];
        let walked = ipv6::check(ip, limit.saturating_sub(l3))
            .and_then(|total| Ok((total, ipv6::walk(ip, total)?)));
        let (total, chain) = match walked {
            Ok(found) if l3 + found.1.offset <= head.len() => found,
            Ok(_) => return self.assign(Self::malformed(l3, Version::V6, Verdict::Ipv6Extensions)),
            Err(error) => return self.assign(Self::malformed(l3, Version::V6, of_ipv6(error))),
        };
        self.carrying_something(l3, (chain.offset, total), Version::V6);
        if let Some(fragment) = chain.fragment {
            if chain.protocol == ipv4::TCP && !ipv6::is_later_fragment(ip, fragment) {
                self.first_fragment(head);
            }
            return;
        }
        match chain.protocol {
            ipv4::TCP => self.carrying_tcp(head),
            protocol => self.carrying(head, protocol, ipv6::ICMP),
        }
    }

    /// Returns the view of a malformed IP packet. Its offset stays valid: the receiver of a tunnel
    /// may report what was in it.
    #[cold]
    fn malformed(l3: usize, version: Version, verdict: Verdict) -> Self {
        Self { l3: l3 as u16, version, ..Self::other(verdict) }
    }

    /// Stores the bounds of an IP packet, with the lengths of its headers and of all of it, as of a
    /// fragment.
    #[inline(always)]
    fn carrying_something(&mut self, l3: usize, (headers, total): (usize, usize), of: Version) {
        let l4 = (l3 + headers) as u16;
        let end = (l3 + total) as u32;
        self.assign(Self {
            l3: l3 as u16,
            l4,
            payload: l4,
            end,
            version: of,
            kind: Kind::Fragment,
        });
    }

    /// Marks the packet as a first fragment if it has the whole TCP header.
    fn first_fragment(&mut self, head: &[u8]) {
        let l4 = usize::from(self.l4);
        if let Ok(tcp) = tcp::check(&head[l4..], self.end as usize - l4) {
            (self.payload, self.kind) = ((l4 + tcp) as u16, Kind::FirstFragment);
        }
    }

    /// Completes the view of an IP packet that carries a whole TCP segment.
    #[inline(always)]
    fn carrying_tcp(&mut self, head: &[u8]) {
        let l4 = usize::from(self.l4);
        self.kind = match tcp::check(&head[l4..], self.end as usize - l4) {
            Ok(tcp) => {
                self.payload = (l4 + tcp) as u16;
                Kind::Tcp
            }
            Err(tcp::Malformed::Truncated) => Kind::Other(Verdict::TcpTruncated),
            Err(tcp::Malformed::DataOffset) => Kind::Other(Verdict::TcpDataOffset),
        };
    }

    /// Completes the view of an IP packet that carries another protocol than TCP and is not a
    /// fragment.
    fn carrying(&mut self, head: &[u8], protocol: u8, icmp: u8) {
        if protocol == icmp {
            self.kind = Kind::Icmp;
            return;
        }
        let (l4, end) = (usize::from(self.l4), self.end as usize);
        self.kind = match tunnel::parse(protocol, &head[l4..], end - l4) {
            None => Kind::Other(Verdict::OtherProtocol),
            Some(Err(tunnel::Unsupported)) => Kind::BadTunnel,
            Some(Ok(header)) => {
                let payload = l4 + header.length;
                self.payload = payload as u16;
                let nibble = head.get(payload).map(|byte| byte >> 4);
                let expected = if header.inner == Version::V4 { 4 } else { 6 };
                let is_valid = nibble == Some(expected) && payload < end;
                if is_valid { Kind::Tunnel } else { Kind::BadTunnel }
            }
        };
    }
}

fn of_ipv4(error: ipv4::Malformed) -> Verdict {
    match error {
        ipv4::Malformed::Truncated => Verdict::IpTruncated,
        ipv4::Malformed::Version => Verdict::IpVersion,
        ipv4::Malformed::HeaderLength => Verdict::IpHeaderLength,
        ipv4::Malformed::TotalLength => Verdict::IpTotalLength,
        ipv4::Malformed::Cut => Verdict::FrameCut,
    }
}

fn of_ipv6(error: ipv6::Malformed) -> Verdict {
    match error {
        ipv6::Malformed::Truncated => Verdict::IpTruncated,
        ipv6::Malformed::Version => Verdict::IpVersion,
        ipv6::Malformed::PayloadLength => Verdict::FrameCut,
        ipv6::Malformed::Extensions => Verdict::Ipv6Extensions,
    }
}
