//! The way to the other ends of tunnels: how large a packet may be, and which format a peer gets.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::wire::family::Family;
use crate::wire::tunnel::Format;

/// What is configured of tunnels.
#[derive(Clone, Debug)]
pub struct TunnelPath {
    /// The largest IP packet that gets through, outer header included, in bytes.
    pub mtu: u16,
    /// The format for all peers without one of their own.
    pub format: Format,
    /// Peers with a format of their own.
    peers: Vec<(IpNet, Format)>,
}

impl Default for TunnelPath {
    fn default() -> Self {
        Self::new(1500, Format::Ipip, [])
    }
}

impl TunnelPath {
    /// A path; of several prefixes that hold a peer the longest counts.
    pub fn new(mtu: u16, format: Format, peers: impl IntoIterator<Item = (IpNet, Format)>) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        Self { mtu, format, peers }
    }

    /// The format for packets to this outer destination.
    pub fn format(&self, peer: IpAddr) -> Format {
        let own = self.peers.iter().find(|(prefix, _)| prefix.contains(&peer));
        own.map_or(self.format, |(_, format)| *format)
    }

    /// The largest packet that fits a tunnel of this format, in bytes.
    #[inline]
    pub fn inner_mtu<F: Family>(&self, format: Format) -> usize {
        usize::from(self.mtu).saturating_sub(format.overhead::<F>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::family::{V4, V6};

    #[test]
    fn the_longest_prefix_gives_the_format() {
        let net = |text: &str| text.parse().unwrap();
        let peers = [
            (net("198.51.100.0/24"), Format::Gre),
            (net("198.51.100.7/32"), Format::Gue),
            (net("2001:db8::/32"), Format::Gue),
        ];
        let path = TunnelPath::new(1400, Format::Ipip, peers);
        let format = |text: &str| path.format(text.parse().unwrap());
        assert_eq!(format("198.51.100.7"), Format::Gue);
        assert_eq!(format("198.51.100.8"), Format::Gre);
        assert_eq!(format("198.51.101.8"), Format::Ipip);
        assert_eq!(format("2001:db8::1"), Format::Gue);
        assert_eq!(
            (path.inner_mtu::<V4>(Format::Gre), path.inner_mtu::<V6>(Format::Gue)),
            (1376, 1348)
        );
    }
}
