//! Virtual cables between namespaces.

use super::command::run;
use super::error::Result;
use super::namespace::{Lab, Namespace};

/// Offloads that leave checksums or segmentation to a network card that is not there.
const OFFLOADS: [&str; 5] = ["tx", "rx", "tso", "gso", "gro"];

impl Lab {
    /// Lays a cable between two namespaces: both ends up, offloads off on both.
    pub fn veth(&self, a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<()> {
        self.veth_with_macs((a.0, a.1, None), (b.0, b.1, None))
    }

    /// Lays a cable whose ends have given hardware addresses.
    pub fn veth_with_macs(
        &self,
        a: (&Namespace, &str, Option<&str>),
        b: (&Namespace, &str, Option<&str>),
    ) -> Result<()> {
        let mut words = vec!["ip", "link", "add", a.1];
        words.extend(a.2.iter().flat_map(|mac| ["address", mac]));
        words.extend(["netns", a.0.name(), "type", "veth", "peer", "name", b.1]);
        words.extend(b.2.iter().flat_map(|mac| ["address", mac]));
        words.extend(["netns", b.0.name()]);
        run(&words)?;
        for (namespace, interface, _) in [a, b] {
            namespace.offloads_off(interface);
            namespace.run(&["ip", "link", "set", "dev", interface, "up"])?;
        }
        Ok(())
    }
}

impl Namespace {
    /// Turns offloads off, those that can be.
    pub fn offloads_off(&self, interface: &str) {
        let flags = OFFLOADS.iter().flat_map(|offload| [*offload, "off"]);
        let all: Vec<_> = ["ethtool", "-K", interface].into_iter().chain(flags).collect();
        if self.run(&all).is_err() {
            // One that cannot be set spoils the lot: set each by itself.
            for offload in OFFLOADS {
                let _ = self.run(&["ethtool", "-K", interface, offload, "off"]);
            }
        }
    }

    /// Gives an interface an address with its prefix length, such as "192.0.2.1/24".
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        let mut words = vec!["ip", "address", "add", address, "dev", interface];
        if address.contains(':') {
            words.push("nodad");
        }
        self.run(&words).map(drop)
    }

    /// Adds a route, such as "default" or a prefix, by way of a next hop.
    pub fn route(&self, prefix: &str, via: &str) -> Result<()> {
        let family = if via.contains(':') { "-6" } else { "-4" };
        self.run(&["ip", family, "route", "add", prefix, "via", via]).map(drop)
    }
}
