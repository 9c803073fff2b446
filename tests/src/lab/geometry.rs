//! How the sites lie to one another: two metric networks, in which no direct way is longer than a detour.
//!
//! A replica that the switch copies to answers after d(client, switch) + d(switch, replica) +
//! d(replica, client). On shortest paths d(switch, replica) + d(replica, client) is at least
//! d(switch, client). So a switch beside the origin never lets a replica win the patent's race,
//! however near the replica is; a switch far from the origin and near clients and replicas does.

use super::site::Site;
use super::topology::{Topology, TopologyBuilder};

/// The sites' distances, as one-way delays in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Delays between sites. [`Site::Origin`] is where the switch stands.
    pub delays: &'static [(Site, Site, f64)],
    /// Delay between the switch and the origin server, on the one way that leads to it.
    pub behind_switch: f64,
}

/// The switch stands beside the origin, 70 ms from the clients.
///
/// The patent's race takes 141 ms with replica 1 and 150 ms with replica 2; the origin answers after
/// 140 ms and wins. Replicas that are asked directly answer after 10 ms and 40 ms.
pub const SWITCH_BESIDE_ORIGIN: Geometry = Geometry {
    delays: &[
        (Site::Client, Site::Origin, 70.0),
        (Site::Client, Site::Replica(1), 5.0),
        (Site::Client, Site::Replica(2), 20.0),
        (Site::Origin, Site::Replica(1), 66.0),
        (Site::Origin, Site::Replica(2), 60.0),
        (Site::Replica(1), Site::Replica(2), 18.0),
    ],
    behind_switch: 0.0,
};

/// The switch stands at an exchange point near clients and replicas, 65 ms before the origin.
///
/// The patent's race takes 14 ms with replica 1 and 44 ms with replica 2; the origin answers after
/// 140 ms. Replicas that are asked directly answer after 12 ms and 42 ms.
pub const SWITCH_NEAR_CLIENTS: Geometry = Geometry {
    delays: &[
        (Site::Client, Site::Origin, 5.0),
        (Site::Client, Site::Replica(1), 6.0),
        (Site::Client, Site::Replica(2), 21.0),
        (Site::Origin, Site::Replica(1), 3.0),
        (Site::Origin, Site::Replica(2), 18.0),
        (Site::Replica(1), Site::Replica(2), 17.0),
    ],
    behind_switch: 65.0,
};

impl Geometry {
    /// Returns a topology of two replicas at these distances.
    #[must_use]
    pub fn topology(self) -> TopologyBuilder {
        let builder = Topology::builder().replicas(2).behind_switch(self.behind_switch);
        let delays = self.delays.iter();
        delays.fold(builder, |builder, (a, b, delay)| builder.delay(*a, *b, *delay))
    }

    /// Returns the delay between two sites; the origin's site is the switch's. Zero for a pair that
    /// the geometry does not list.
    #[must_use]
    pub fn distance(self, a: Site, b: Site) -> f64 {
        let is_pair = |(from, to, _): &&(Site, Site, f64)| [(a, b), (b, a)].contains(&(*from, *to));
        self.delays.iter().find(is_pair).map_or(0.0, |(_, _, delay)| *delay)
    }

    /// Returns the time from the client's SYN to the origin's SYN/ACK, in milliseconds.
    #[must_use]
    pub fn origin_answers(self) -> f64 {
        2.0 * (self.distance(Site::Client, Site::Origin) + self.behind_switch)
    }

    /// Returns the time to the SYN/ACK of a replica that the switch has copied to, in milliseconds.
    #[must_use]
    pub fn replica_answers(self, number: usize) -> f64 {
        let [client, switch, replica] = [Site::Client, Site::Origin, Site::Replica(number)];
        self.distance(client, switch)
            + self.distance(switch, replica)
            + self.distance(replica, client)
    }

    /// Returns the time to the SYN/ACK of a replica that was sent a direct copy, in milliseconds.
    #[must_use]
    pub fn replica_answers_directly(self, number: usize) -> f64 {
        2.0 * self.distance(Site::Client, Site::Replica(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Geometry; 2] = [SWITCH_BESIDE_ORIGIN, SWITCH_NEAR_CLIENTS];
    const SITES: [Site; 4] = [Site::Client, Site::Origin, Site::Replica(1), Site::Replica(2)];

    #[test]
    fn no_way_is_longer_than_a_detour() {
        // The origin server has one way to it, through the switch, so its triangles hold with these.
        for geometry in BOTH {
            for a in SITES {
                for b in SITES.into_iter().filter(|b| *b != a) {
                    assert!(geometry.distance(a, b) > 0.0, "{a} and {b} have no distance");
                    for c in SITES {
                        let detour = geometry.distance(a, c) + geometry.distance(c, b);
                        assert!(detour >= geometry.distance(a, b), "{a} - {c} - {b}: {detour}");
                    }
                }
            }
        }
    }

    #[test]
    fn beside_the_origin_the_patents_race_is_lost_by_every_replica() {
        let geometry = SWITCH_BESIDE_ORIGIN;
        assert_eq!(geometry.origin_answers(), 140.0);
        assert_eq!([1, 2].map(|number| geometry.replica_answers(number)), [141.0, 150.0]);
        assert_eq!([1, 2].map(|number| geometry.replica_answers_directly(number)), [10.0, 40.0]);
    }

    #[test]
    fn near_clients_the_patents_race_is_won_by_the_nearest_replica() {
        let geometry = SWITCH_NEAR_CLIENTS;
        assert_eq!(geometry.origin_answers(), 140.0);
        assert_eq!([1, 2].map(|number| geometry.replica_answers(number)), [14.0, 44.0]);
        assert_eq!([1, 2].map(|number| geometry.replica_answers_directly(number)), [12.0, 42.0]);
    }
}
