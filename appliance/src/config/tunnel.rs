//! `[tunnel]`: the format of the tunnels that this process sends, and the MTU of their path.

use ipnet::IpNet;

use super::reader::{Found, Section};
use super::service::Once;
use super::value;

/// The header between the outer IP header and the packet in a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelFormat {
    /// None: IP in IP.
    #[default]
    Ipip,
    /// A GRE header of 4 bytes.
    Gre,
    /// A UDP header and a GUE header of 4 bytes.
    Gue,
}

impl TunnelFormat {
    /// Returns the format of this name.
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "ipip" => Some(Self::Ipip),
            "gre" => Some(Self::Gre),
            "gue" => Some(Self::Gue),
            _ => None,
        }
    }

    /// Returns the number of bytes between the outer IP header and the packet.
    fn header(self) -> u16 {
        match self {
            Self::Ipip => 0,
            Self::Gre => 4,
            Self::Gue => 12,
        }
    }
}

/// The tunnels that this process sends. All formats are received, whatever is set here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The format of tunnels to addresses outside all `peers`.
    pub format: TunnelFormat,
    /// The largest packet that the path carries, outer header included, in bytes.
    pub path_mtu: u16,
    /// Addresses with another format, the longest prefix first: the first that contains an outer
    /// destination applies. No two are equal.
    pub peers: Vec<TunnelPeer>,
}

/// The format of tunnels to some outer destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelPeer {
    /// The outer destinations.
    pub prefix: IpNet,
    /// The format of tunnels to them.
    pub format: TunnelFormat,
}

/// Every IPv6 host may send packets of this length, whatever it is told (RFC 8200, section 5).
const LEAST_MTU_V6: u16 = 1280;
/// The outer header of an IPv6 packet between gateway and replica, which is IPv6 too.
const OUTER_V6: u16 = 40;

/// Reads `[tunnel]`. Returns it with the position of `path_mtu`.
pub(super) fn read(root: &Section<'_>) -> Option<(Tunnel, usize)> {
    let section = root.section("tunnel");
    let format = section.choice("format", TunnelFormat::from_name);
    let path_mtu = section.found_integer::<u16>("path_mtu");
    let peers = peers(&section);
    let Found { value: path_mtu, at, .. } = path_mtu?;
    Some((Tunnel { format: format?, path_mtu, peers: peers? }, at))
}

fn peers(section: &Section<'_>) -> Option<Vec<TunnelPeer>> {
    let mut prefixes = Once::default();
    let peer = |section: &Section<'_>| {
        let prefix = section.found("prefix", value::prefix);
        let format = section.choice("format", TunnelFormat::from_name);
        let Found { value: prefix, at, .. } = prefix?;
        prefixes.take(section, (at, "prefix"), prefix, &value::shown_prefix(prefix));
        Some(TunnelPeer { prefix, format: format? })
    };
    let read: Vec<_> = section.sections("peer").iter().map(peer).collect();
    let mut peers = read.into_iter().collect::<Option<Vec<_>>>()?;
    peers.sort_by_key(|peer| std::cmp::Reverse(peer.prefix.prefix_len()));
    Some(peers)
}

impl Tunnel {
    /// Returns the most bytes in front of an IPv6 packet in a tunnel of its own family.
    fn most_overhead_v6(&self) -> u16 {
        let peers = self.peers.iter().filter(|peer| peer.prefix.addr().is_ipv6());
        let formats = peers.map(|peer| peer.format).chain([self.format]);
        OUTER_V6 + formats.map(TunnelFormat::header).max().unwrap_or_default()
    }

    /// Notes a path MTU too small for the smallest packets that IPv6 hosts must be able to send.
    /// Under configuration C all of a client's packets to a replica take this path.
    pub(super) fn check_room_v6(&self, root: &Section<'_>, at: usize) {
        let least = LEAST_MTU_V6 + self.most_overhead_v6();
        if self.path_mtu < least {
            let message = format!(
                "{} leaves {} bytes to the IPv6 packets that configuration \"C\" tunnels, of \
                 {LEAST_MTU_V6} that every path has; expected at least {least}",
                self.path_mtu,
                self.path_mtu - self.most_overhead_v6()
            );
            root.error(at, "tunnel.path_mtu", message);
        }
    }
}
