//! The management network: one segment that joins the appliances of all servers' sites and the
//! servers themselves, by the kernel's own interfaces, beside the WAN.
//!
//! An appliance probes web servers and replicas from its host's own network, which its ports
//! are no part of.

use super::error::Result;
use super::namespace::{Lab, Namespace};
use super::site::{Place, Station};

/// Name of the bridge, and of each member's interface.
const NAME: &str = "management";
/// Everybody's prefix is the whole segment.
const PREFIX_LENGTH: u8 = 16;

/// Lays it: 10.99.(site).10 is a host's address, 10.99.(site).1 its appliance's.
pub(super) fn build(lab: &Lab, servers: &[Place]) -> Result<()> {
    let segment = lab.namespace(NAME)?;
    segment.run(&["ip", "link", "add", NAME, "type", "bridge"])?;
    segment.run(&["ip", "link", "set", "dev", NAME, "up"])?;
    for place in servers {
        join(lab, &segment, place, (&place.host, Station::Host))?;
        if let Some(appliance) = &place.appliance {
            join(lab, &segment, place, (appliance, Station::Inside))?;
        }
    }
    Ok(())
}

fn join(
    lab: &Lab,
    segment: &Namespace,
    place: &Place,
    (member, station): (&Namespace, Station),
) -> Result<()> {
    let port = format!("{}-{}", place.site, station as u8);
    lab.veth((member, NAME), (segment, &port))?;
    segment.run(&["ip", "link", "set", "dev", &port, "master", NAME])?;
    let address = place.site.management_of(station);
    member.address(NAME, &format!("{address}/{PREFIX_LENGTH}"))
}
