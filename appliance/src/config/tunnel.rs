//! `[tunnel]`: the format of the tunnels that this process sends, and the MTU of their path.

use ipnet::IpNet;
use pipeline::wire::family::V6;
use pipeline::wire::tunnel::Format;

use super::reader::Section;
use super::section::section;
use super::service::Once;
use super::value;

section! {
    /// The tunnels that this process sends. All formats are received, whatever is set here.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Tunnel from TunnelKeys in "tunnel" {
        /// The format of tunnels to addresses that match no peer.
        format: Format = FORMAT, Value(r#""ipip""#);
        /// The largest packet that fits the path, outer header included, in bytes.
        path_mtu: u16 = Integer(1280, 9216), Value("1500");
    }
    with {
        /// Addresses with another format, the longest prefix first: the first that contains an
        /// outer destination applies. No two are equal.
        peers: Vec<TunnelPeer>,
    }
}

section! {
    /// The format of tunnels to some outer destinations.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TunnelPeer from TunnelPeerKeys in "tunnel.peer" {
        [[..]] = Sections(0, Some(1024)), Derived("no peer");
        /// The outer destinations.
        prefix: IpNet = PEER, Required;
        /// The format of tunnels to them.
        format: Format = FORMAT, Required;
    }
}

/// Every IPv6 host may send packets of this length, whatever it is told (RFC 8200, section 5).
const LEAST_MTU_V6: u16 = 1280;

/// Reads `[tunnel]`. Returns it with the position of `path_mtu`.
pub(super) fn read(root: &Section<'_>) -> Option<(Tunnel, usize)> {
    let section = root.section("tunnel");
    let keys = TunnelKeys::read(&section);
    let peers = peers(&section);
    let at = keys.path_mtu.as_ref()?.at;
    Some((keys.build(peers?)?, at))
}

fn peers(section: &Section<'_>) -> Option<Vec<TunnelPeer>> {
    let mut prefixes = Once::default();
    let peer = |section: &Section<'_>| {
        let keys = TunnelPeerKeys::read(section);
        let prefix = keys.prefix.as_ref()?;
        let shown = value::shown_prefix(prefix.value);
        prefixes.take(section, (prefix.at, "prefix"), prefix.value, &shown);
        keys.build()
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
        formats.map(|format| format.overhead::<V6>() as u16).max().unwrap_or_default()
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
