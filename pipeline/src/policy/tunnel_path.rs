//! The path to the tunnels' other ends: its MTU, and the format for each peer.

use std::net::IpAddr;

use ipnet::IpNet;

use super::prefixes::PrefixMap;
use crate::wire::family::Family;
use crate::wire::tunnel::Format;

/// The MTU and the formats of tunnels.
///
/// # Examples
/// ```
/// use pipeline::policy::tunnel_path::TunnelPath;
/// use pipeline::wire::family::V4;
/// use pipeline::wire::tunnel::Format;
///
/// let peers = [("198.51.100.0/24".parse().unwrap(), Format::Gre)];
/// let path = TunnelPath::new(1500, Format::Ipip, peers);
/// let format = path.format("198.51.100.10".parse().unwrap());
/// assert_eq!(format, Format::Gre);
/// // 20 bytes of IPv4, 4 bytes of GRE.
/// assert_eq!(path.inner_mtu::<V4>(format), 1476);
/// assert_eq!(path.format("203.0.113.10".parse().unwrap()), Format::Ipip);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPath {
    /// The largest IP packet that gets through, outer header included, in bytes.
    pub mtu: u16,
    /// The format for peers without a format of their own.
    pub format: Format,
    /// Peers with a format of their own.
    peers: PrefixMap<Format>,
}

impl Default for TunnelPath {
    /// IP in IP with a path MTU of 1500 bytes.
    fn default() -> Self {
        Self::new(1500, Format::Ipip, [])
    }
}

impl TunnelPath {
    /// Returns a path with this MTU, in bytes. The format for a peer is that of the longest of the
    /// `peers` prefixes that contain it, otherwise `format`.
    pub fn new(mtu: u16, format: Format, peers: impl IntoIterator<Item = (IpNet, Format)>) -> Self {
        Self { mtu, format, peers: PrefixMap::new(peers) }
    }

    /// Returns the format for packets to this outer destination.
    pub fn format(&self, peer: IpAddr) -> Format {
        self.peers.get(peer).unwrap_or(self.format)
    }

    /// Returns the length of the largest packet that fits a tunnel of this format, in bytes.
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
    fn the_longest_prefix_decides_the_format() {
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
