//! `[tunnel]`: the form of the tunnels that this process sends, and what fits in them.

use ipnet::IpNet;
use pipeline::wire::family::V6;
use pipeline::wire::tunnel::Format;

use super::reader::{Found, Section};
use super::service::Once;
use super::value;

/// The tunnels that are sent. All formats are received, whatever stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Format of tunnels to addresses that no peer holds.
    pub format: Format,
    /// Largest packet that the path takes, outer header included.
    pub path_mtu: u16,
    /// Addresses that get another format, the longest prefix first: the first that holds an
    /// outer destination counts. No two are equal.
    pub peers: Vec<TunnelPeer>,
}

/// Outer destinations with a format of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelPeer {
    /// The outer destinations.
    pub prefix: IpNet,
    /// The format of tunnels to them.
    pub format: Format,
}

/// Every IPv6 host may send packets as long as this, whatever it is told (RFC 8200, section 5).
const LEAST_MTU_V6: u16 = 1280;

/// Reads `[tunnel]`; tells where `path_mtu` stands.
pub(super) fn read(root: &Section<'_>) -> Option<(Tunnel, usize)> {
    let section = root.section("tunnel");
    let format = section.choice("format", Format::from_name);
    let path_mtu = section.found_integer::<u16>("path_mtu");
    let peers = peers(&section);
    let Found { value: path_mtu, at, .. } = path_mtu?;
    Some((Tunnel { format: format?, path_mtu, peers: peers? }, at))
}

fn peers(section: &Section<'_>) -> Option<Vec<TunnelPeer>> {
    let mut prefixes = Once::default();
    let peer = |section: &Section<'_>| {
        let prefix = section.found("prefix", value::prefix);
        let format = section.choice("format", Format::from_name);
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
    /// The most bytes that stand before an IPv6 packet in a tunnel of its own family.
    fn most_overhead_v6(&self) -> u16 {
        let peers = self.peers.iter().filter(|peer| peer.prefix.addr().is_ipv6());
        let formats = peers.map(|peer| peer.format).chain([self.format]);
        formats.map(|format| format.overhead::<V6>() as u16).max().unwrap_or_default()
    }

    /// Notes a path on which the smallest packets that IPv6 hosts can be held to do not fit.
    /// Under configuration C all of a client's packets to a replica take it.
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
