//! What a worker has seen that tells of a mistake in the cabling or in a configuration: how often, and
//! where last. Only SYNs and packets on the slow path are looked at.

use std::net::IpAddr;

use super::Counter;

/// What tells of a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Packets come by the side that they should leave by: inside and outside are swapped. With the
    /// address of a service, and its port.
    SidesSwapped,
    /// A SYN to a service has a tag with another kind or experiment identifier. With the SYN's source,
    /// and the identifier.
    OtherTag,
    /// A tagged SYN is to the address of a service, but to a port that this one does not list. With that
    /// address and port.
    OtherPort,
    /// A host outside `allowed_replicas` has answered a race. With its address and port.
    NotAllowed,
    /// A tagged SYN comes in a tunnel from an address that is not in `switches`, nor the SYN's own source.
    /// With that address.
    UnknownSwitch,
}

impl Sighting {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::SidesSwapped,
        Self::OtherTag,
        Self::OtherPort,
        Self::NotAllowed,
        Self::UnknownSwitch,
    ];

    /// Returns its name in the counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::SidesSwapped => "sides_swapped",
            Self::OtherTag => "other_tag",
            Self::OtherPort => "other_port",
            Self::NotAllowed => "not_allowed",
            Self::UnknownSwitch => "unknown_switch",
        }
    }
}

/// How often something was seen, and where last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How often.
    pub count: u64,
    /// The last address, as said at [`Sighting`].
    pub address: IpAddr,
    /// What goes with the address, as said there.
    pub detail: u16,
}

#[derive(Debug, Default)]
struct Slot {
    count: Counter,
    address: [Counter; 2],
    detail: Counter,
}

/// The sightings of one worker, which alone writes them.
#[derive(Debug, Default)]
pub struct Sightings([Slot; Sighting::ALL.len()]);

impl Sightings {
    /// Goes on from those of the same worker before a reload. Called by that worker.
    pub(super) fn continue_from(&self, earlier: &Self) {
        for (own, earlier) in self.0.iter().zip(&earlier.0) {
            own.count.set(earlier.count.get());
            own.detail.set(earlier.detail.get());
            for (own, earlier) in own.address.iter().zip(&earlier.address) {
                own.set(earlier.get());
            }
        }
    }

    /// Notes a sighting.
    #[cold]
    pub fn note(&self, what: Sighting, address: IpAddr, detail: u16) {
        let slot = &self.0[what as usize];
        let bits = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        slot.address[0].set((bits >> 64) as u64);
        slot.address[1].set(bits as u64);
        slot.detail.set(detail.into());
        slot.count.add(1);
    }

    /// Returns what was seen of a kind; `None` if nothing was. While another sighting is being noted,
    /// the address may be a mixture of both.
    pub fn get(&self, what: Sighting) -> Option<Seen> {
        let slot = &self.0[what as usize];
        let bits = u128::from(slot.address[0].get()) << 64 | u128::from(slot.address[1].get());
        let address = IpAddr::from(bits.to_be_bytes()).to_canonical();
        let seen = Seen { count: slot.count.get(), address, detail: slot.detail.get() as u16 };
        (seen.count > 0).then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_count_and_its_last_place() {
        let sightings = Sightings::default();
        let [v4, v6]: [IpAddr; 2] = ["192.0.2.7", "2001:db8::7"].map(|text| text.parse().unwrap());
        for (n, what) in Sighting::ALL.into_iter().enumerate() {
            assert_eq!((what as usize, sightings.get(what)), (n, None));
            sightings.note(what, v6, 1);
            sightings.note(what, v4, 65535);
            let seen = Seen { count: 2, address: v4, detail: 65535 };
            assert_eq!(sightings.get(what), Some(seen));
            sightings.note(what, v6, 3);
            assert_eq!(sightings.get(what).map(|seen| seen.address), Some(v6));
        }
    }
}
