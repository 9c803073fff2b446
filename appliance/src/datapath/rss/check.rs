//! The check that a port distributes packets as it should.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pipeline::packet::view::{Kind, View};
use pipeline::wire::family::Version;

/// Packets of a family that a port must distribute correctly before it is trusted with the family.
const TRIAL: u32 = 4096;
/// One packet in this many is checked on a trusted port.
const SAMPLE: u32 = 64;

/// Bytes of an Ethernet header.
const ETHERNET: u16 = 14;
/// Bytes of an IPv4 header without options.
const IPV4: u16 = 20;
/// Bytes of an IPv6 header.
const IPV6: u16 = 40;

/// Set when a packet of a family has come to the wrong queue of a port; `None` if the port does not
/// claim to distribute the family at all. By family.
pub type Mismatches = [Option<Arc<AtomicBool>>; 2];

/// A worker's check of one receive queue on a port that claims to distribute packets by RSS, for each
/// address family.
///
/// Each port has to prove itself: first every packet is checked, later a sample. A single packet in
/// the wrong queue ends the trust in this family for good; from then on all packets are checked and handed
/// over, as on a port without RSS.
#[derive(Debug)]
pub struct RssCheck {
    /// Whether the port marks the packets that it has hashed.
    marks: bool,
    families: [FamilyCheck; 2],
}

#[derive(Debug)]
struct FamilyCheck {
    /// Set by the worker that finds a packet in the wrong queue. `None` for a family that the port
    /// is not trusted with at all.
    mismatch: Option<Arc<AtomicBool>>,
    /// Packets left of the trial.
    trial_left: u32,
    /// Packets not checked since the last one that was.
    unchecked: u32,
}

impl RssCheck {
    /// Creates the check of a port that does not distribute packets: never trusted.
    pub fn untrusted() -> Self {
        Self::on_trial(true, [None, None])
    }

    /// Creates the check of a port that claims to distribute packets of some families. `marks` says
    /// whether it marks the packets that it has hashed. `mismatches` are shared by the port's queues.
    pub fn on_trial(marks: bool, mismatches: Mismatches) -> Self {
        let family = |mismatch| FamilyCheck { mismatch, trial_left: TRIAL, unchecked: 0 };
        Self { marks, families: mismatches.map(family) }
    }

    /// Returns the family of a packet that the port claims to have distributed by its client; `None` for
    /// other packets. `is_marked` says whether the port has marked it as hashed.
    ///
    /// Counted in are packets of plain TCP, as those only are hashed alike by all cards. Behind extension
    /// headers some use an address in one of those instead, and some use the inner addresses of a tunnel. A
    /// port that marks nothing (net_virtio) does not tell which packets it has passed over, so with tags
    /// or IP options in them they are not counted in.
    #[inline]
    pub fn distributed(&self, is_marked: bool, view: &View) -> Option<Version> {
        let header = view.l4.wrapping_sub(view.l3);
        let is_plain = view.kind == Kind::Tcp && (view.version == Version::V4 || header == IPV6);
        let is_hashed =
            is_marked || !self.marks && view.l3 == ETHERNET && (header == IPV4 || header == IPV6);
        (is_plain && is_hashed).then_some(view.version)
    }

    /// Returns whether the next packet of a family that is [distributed](Self::distributed) by the port
    /// can go unchecked.
    #[inline]
    pub fn trusts(&mut self, family: Version) -> bool {
        let check = &mut self.families[family as usize];
        if check.mismatch.is_none() || check.trial_left > 0 {
            return false;
        }
        check.unchecked += 1;
        if check.unchecked < SAMPLE {
            return true;
        }
        check.unchecked = 0;
        false
    }

    /// Records that such a packet was checked, and whether it came to the right queue.
    #[inline]
    pub fn record(&mut self, family: Version, matches: bool) {
        let check = &mut self.families[family as usize];
        let Some(mismatch) = &check.mismatch else { return };
        if !matches {
            mismatch.store(true, Relaxed);
        }
        // Another worker may have set it.
        if mismatch.load(Relaxed) {
            check.mismatch = None;
        }
        check.trial_left = check.trial_left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use pipeline::verdict::Verdict;

    use super::*;

    const V4: Version = Version::V4;
    const V6: Version = Version::V6;

    fn both() -> Mismatches {
        [Some(Arc::default()), Some(Arc::default())]
    }

    #[test]
    fn a_port_is_trusted_after_its_trial_and_still_sampled() {
        let mut check = RssCheck::on_trial(true, both());
        for family in [V4, V6] {
            for _ in 0..TRIAL {
                assert!(!check.trusts(family));
                check.record(family, true);
            }
            let trusted = (0..SAMPLE * 10).filter(|_| check.trusts(family)).count();
            assert_eq!(trusted, (SAMPLE as usize - 1) * 10);
        }
    }

    #[test]
    fn one_packet_in_the_wrong_queue_ends_the_trust() {
        for right in [0, TRIAL, TRIAL + 7] {
            let mismatches = both();
            let seen = || [0, 1].map(|at: usize| mismatches[at].as_ref().unwrap().load(Relaxed));
            let mut check = RssCheck::on_trial(true, mismatches.clone());
            (0..right).for_each(|_| check.record(V4, true));
            assert_eq!(seen(), [false, false]);
            check.record(V4, false);
            assert_eq!(seen(), [true, false]);
            (0..2 * TRIAL).for_each(|_| check.record(V4, true));
            assert!((0..2 * SAMPLE).all(|_| !check.trusts(V4)));
        }
        // A worker on another queue of the port notices with its next sample.
        let mismatches = both();
        let mut check = RssCheck::on_trial(true, mismatches.clone());
        (0..TRIAL).for_each(|_| check.record(V4, true));
        mismatches[0].as_ref().unwrap().store(true, Relaxed);
        assert!(check.trusts(V4));
        check.record(V4, true);
        assert!((0..2 * SAMPLE).all(|_| !check.trusts(V4)));
        let mut untrusted = RssCheck::untrusted();
        untrusted.record(V4, true);
        assert!(!untrusted.trusts(V4));
    }

    #[test]
    fn each_family_is_trusted_by_itself() {
        let mut check = RssCheck::on_trial(true, both());
        for _ in 0..TRIAL {
            check.record(V4, true);
            check.record(V6, true);
        }
        check.record(V6, false);
        assert!(check.trusts(V4) && (0..2 * SAMPLE).all(|_| !check.trusts(V6)));
        // A port that does not claim to distribute IPv6.
        let mut check = RssCheck::on_trial(true, [Some(Arc::default()), None]);
        for _ in 0..2 * TRIAL {
            check.record(V4, true);
            check.record(V6, true);
        }
        assert!(check.trusts(V4) && (0..2 * SAMPLE).all(|_| !check.trusts(V6)));
    }

    fn view(version: Version, kind: Kind, l3: u16, l4: u16) -> View {
        View { l3, l4, payload: l4 + 20, end: 2000, version, kind }
    }

    #[test]
    fn a_port_that_marks_is_judged_by_the_packets_that_it_marks() {
        let check = RssCheck::on_trial(true, both());
        let tcp = view(V4, Kind::Tcp, 14, 34);
        assert_eq!(check.distributed(true, &tcp), Some(V4));
        assert_eq!(check.distributed(false, &tcp), None, "a kind that it does not hash");
        // Tags, options and IPv6.
        assert_eq!(check.distributed(true, &view(V4, Kind::Tcp, 18, 46)), Some(V4));
        assert_eq!(check.distributed(true, &view(V6, Kind::Tcp, 18, 58)), Some(V6));
        // Extension headers; what is not TCP, or not whole.
        assert_eq!(check.distributed(true, &view(V6, Kind::Tcp, 14, 62)), None);
        for kind in [Kind::Tunnel, Kind::Icmp, Kind::Fragment, Kind::Other(Verdict::NonIp)] {
            assert_eq!(check.distributed(true, &view(V4, kind, 14, 34)), None, "{kind:?}");
        }
    }

    #[test]
    fn a_port_that_marks_nothing_is_judged_by_the_plainest_packets() {
        let check = RssCheck::on_trial(false, both());
        assert_eq!(check.distributed(false, &view(V4, Kind::Tcp, 14, 34)), Some(V4));
        assert_eq!(check.distributed(false, &view(V6, Kind::Tcp, 14, 54)), Some(V6));
        for (version, l3, l4) in [(V4, 18, 38), (V4, 14, 38), (V6, 18, 58), (V6, 14, 62)] {
            assert_eq!(check.distributed(false, &view(version, Kind::Tcp, l3, l4)), None);
        }
        assert_eq!(check.distributed(false, &view(V4, Kind::Arp, 14, 14)), None);
        assert_eq!(check.distributed(false, &view(V4, Kind::Icmp, 14, 34)), None);
    }
}
