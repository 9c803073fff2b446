//! Warnings of mistakes in the cabling and in the files of other appliances, which only traffic shows.
//! Each is logged when it is seen for the first time, and then at most every ten minutes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::counters::{RoleCounters, Seen, Sighting};
use pipeline::verdict::Roles;

/// The shortest time between two warnings of one kind.
const INTERVAL: Duration = Duration::from_secs(600);

/// The warnings so far.
#[derive(Debug, Default)]
pub struct Notices([Notice; Sighting::ALL.len()]);

/// The warnings of one kind so far.
#[derive(Clone, Copy, Debug, Default)]
struct Notice {
    logged: u64,
    last: Option<Instant>,
}

impl Notices {
    /// Logs what has been seen since it was last logged, if that is long ago.
    pub fn log(&mut self, workers: &[Arc<dyn RoleCounters>], now: Instant) {
        for text in self.due(workers, now) {
            tracing::warn!("{text}");
        }
    }

    fn due(&mut self, workers: &[Arc<dyn RoleCounters>], now: Instant) -> Vec<String> {
        let Some(role) = workers.first().map(|worker| worker.role()) else { return Vec::new() };
        let all = Sighting::ALL.into_iter().zip(&mut self.0);
        all.filter_map(|(what, notice)| {
            let seen = seen(workers, what).filter(|seen| seen.count > notice.logged)?;
            if notice.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
                return None;
            }
            *notice = Notice { logged: seen.count, last: Some(now) };
            Some(text(role, what, seen))
        })
        .collect()
    }
}

/// Returns what all workers have seen of a kind, with the place of the one that has seen most.
pub fn seen(workers: &[Arc<dyn RoleCounters>], what: Sighting) -> Option<Seen> {
    let all = || workers.iter().filter_map(|worker| worker.common().sightings.get(what));
    let count = all().map(|seen| seen.count).sum();
    let most = all().max_by_key(|seen| seen.count)?;
    Some(Seen { count, ..most })
}

/// Returns the warning: what was seen, what it means, and what to do.
fn text(role: Roles, what: Sighting, seen: Seen) -> String {
    let Seen { count, address, detail } = seen;
    let endpoint = SocketAddr::new(address, detail);
    let packets = if count == 1 { "1 packet".to_owned() } else { format!("{count} packets") };
    match what {
        Sighting::SidesSwapped if role == Roles::REPLICA => format!(
            "copies to {address} come from the inside ({packets}): inside and outside may be \
             swapped; expected the WAN at port.outside"
        ),
        Sighting::SidesSwapped if role == Roles::SWITCH => format!(
            "the service {endpoint} answers from the outside ({packets}): inside and outside may be \
             swapped; expected its servers at port.inside"
        ),
        Sighting::SidesSwapped => format!(
            "the service {endpoint} is on the inside ({packets}): inside and outside may be swapped; \
             expected the clients at port.inside"
        ),
        Sighting::OtherTag => format!(
            "SYNs have tags with the identifier {detail:#06x}, last from {address} ({packets}): a \
             gateway with another tag.exid or tag.kind; expected the same everywhere"
        ),
        Sighting::OtherPort => format!(
            "tagged SYNs are to {endpoint}, a port that no service here lists ({packets}): expected \
             it in the service's ports, or not at the gateway"
        ),
        Sighting::NotAllowed => format!(
            "{} has answered races and may not win them ({packets}): expected it in \
             allowed_replicas, if it is a replica",
            shown(address, detail)
        ),
        Sighting::UnknownSwitch => format!(
            "SYN copies come from {address}, which is not in replica.switches ({packets}): expected it \
             there, if it is a switch's source"
        ),
    }
}

fn shown(address: IpAddr, port: u16) -> String {
    match port {
        0 => address.to_string(),
        _ => SocketAddr::new(address, port).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use pipeline::counters::{GatewayCounters, ReplicaCounters, SwitchCounters};

    use super::*;

    #[test]
    fn each_kind_is_logged_once_and_again_after_a_while() {
        let workers = [(); 2].map(|()| Arc::new(GatewayCounters::default()));
        let note = |worker: usize, address: &str| {
            let sightings = &workers[worker].common.sightings;
            sightings.note(Sighting::NotAllowed, address.parse().unwrap(), 80);
        };
        let shared = workers.clone().map(|worker| worker as Arc<dyn RoleCounters>);
        let (mut notices, now) = (Notices::default(), Instant::now());
        assert!(notices.due(&shared, now).is_empty());
        note(0, "192.0.2.1");
        note(1, "192.0.2.2");
        note(1, "2001:db8::2");
        let expected = "[2001:db8::2]:80 has answered races and may not win them (3 packets): \
                        expected it in allowed_replicas, if it is a replica";
        assert_eq!(notices.due(&shared, now), [expected]);
        note(0, "192.0.2.1");
        assert!(notices.due(&shared, now + INTERVAL / 2).is_empty());
        assert_eq!(notices.due(&shared, now + INTERVAL).len(), 1);
        assert!(notices.due(&shared, now + 3 * INTERVAL).is_empty(), "nothing is new");
    }

    #[test]
    fn each_role_says_what_it_expects() {
        let address = "203.0.113.10".parse().unwrap();
        let switch = Arc::new(SwitchCounters::new(0, 0));
        let replica = Arc::new(ReplicaCounters::new(0));
        for sightings in [&switch.common.sightings, &replica.common.sightings] {
            Sighting::ALL.into_iter().for_each(|what| sightings.note(what, address, 443));
        }
        let all: [Arc<dyn RoleCounters>; 2] = [switch, replica];
        let said = all.map(|role| Notices::default().due(&[role], Instant::now()));
        assert!(said[0][0].contains("203.0.113.10:443 answers from the outside"), "{said:?}");
        assert!(said[1][0].contains("copies to 203.0.113.10 come from the inside"), "{said:?}");
        assert!(said[0][1].contains("0x01bb") && said[0][2].contains("203.0.113.10:443, a port"));
        assert!(said[1][4].contains("from 203.0.113.10, which is not in replica.switches"));
    }
}
