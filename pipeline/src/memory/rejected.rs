//! Sites that were tried and had to make room for others, so that they are not tried over and over
//! while others wait.

use super::site::Site;
use super::smoothed::Smoothed;
use crate::base::time::Ticks;

/// The most sites that are noted.
const NOTED: usize = 512;
/// A site that was found slow is not tried again for so long, unless it has become faster.
const REJECTED_FOR: Ticks = Ticks::from_secs(60);

/// A site that was tried and found slow.
#[derive(Clone, Copy, Debug)]
struct Rejected {
    key: u128,
    direct: Ticks,
    by_switch: Option<Ticks>,
    at: Ticks,
}

/// The sites that were tried and found slow.
#[derive(Debug, Default)]
pub(super) struct RejectedSites(Vec<Rejected>);

impl RejectedSites {
    /// Notes a site that makes room for another, if it has answered directly.
    pub(super) fn note(&mut self, site: &Site, now: Ticks) {
        let Some(direct) = site.direct_time() else { return };
        self.0.retain(|one| one.key != site.key && now.since(one.at) < REJECTED_FOR);
        if self.0.len() < NOTED {
            let by_switch = site.by_switch.map(Smoothed::time);
            self.0.push(Rejected { key: site.key, direct, by_switch, at: now });
        }
    }

    /// Returns whether a site that has answered by way of the switch need not be tried: it was
    /// tried lately, and by its answer it is no nearer than the best.
    pub(super) fn has(
        &self,
        key: u128,
        (by_switch, best): (Option<Ticks>, Option<Ticks>),
        now: Ticks,
    ) -> bool {
        let Some(site) = self.0.iter().find(|site| site.key == key) else { return false };
        let estimate = match (by_switch, site.by_switch) {
            (Some(by_switch), Some(then)) => (site.direct + by_switch).since(then),
            _ => site.direct,
        };
        now.since(site.at) < REJECTED_FOR && best.is_some_and(|best| best <= estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_slow_site_is_not_tried_again_for_a_while_unless_it_has_become_faster() {
        let ms = Ticks::from_millis;
        let r = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));
        let mut site = Site::new(7, r, ms(0));
        let mut rejected = RejectedSites::default();
        rejected.note(&site, ms(0));
        assert!(!rejected.has(7, (None, Some(ms(1))), ms(0)), "it was never tried");
        site.note_answer(r, false, Some(ms(150)), ms(0));
        site.note_answer(r, true, Some(ms(80)), ms(0));
        rejected.note(&site, ms(0));
        let has = |by_switch, now| rejected.has(7, (Some(ms(by_switch)), Some(ms(20))), now);
        assert!(has(150, ms(59_999)) && has(90, ms(10)));
        assert!(!has(150, ms(60_000)) && !has(89, ms(10)));
        assert!(!rejected.has(8, (Some(ms(150)), Some(ms(20))), ms(10)));
    }
}
