//! The largest configuration: what packets need of it is looked up, not walked.

use pipeline::packet::view::Side;
use pipeline::verdict::Verdict;

use super::roles::{NEW, arrivals, work};
use super::{Case, Named};
use crate::configuration::Size;

/// The largest configuration.
const SIZE: Size = Size::LARGEST;

pub(super) fn cases() -> Vec<Case> {
    let packets: [Named; 5] = [
        ("largest_unknown_fragment", || {
            let frames = SIZE.fragments(NEW);
            work(SIZE.gateway(), arrivals(Side::Outside, &frames, Verdict::Fragment))
        }),
        ("largest_syn_to_no_service", || {
            let frames = SIZE.foreign_syns(NEW);
            work(SIZE.gateway(), arrivals(Side::Inside, &frames, Verdict::NoService))
        }),
        ("largest_syn_to_a_service", || {
            let frames = SIZE.syns(NEW);
            work(SIZE.gateway(), arrivals(Side::Inside, &frames, Verdict::Tagged))
        }),
        ("largest_copy", || {
            let frames = SIZE.copies(NEW);
            work(SIZE.replica(), arrivals(Side::Outside, &frames, Verdict::CopyAccepted))
        }),
        ("largest_forged_syn", || {
            let frames = SIZE.forged_syns(NEW);
            work(SIZE.switch(), arrivals(Side::Outside, &frames, Verdict::ClientNotAllowed))
        }),
    ];
    packets.map(|(name, build)| Case::burst(name, "packet", build)).into()
}
