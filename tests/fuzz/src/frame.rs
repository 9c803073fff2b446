//! Target `frame`: one frame, from both sides, whole and in two segments, to one role.
//!
//! Input: role and set-up (2 bytes), side and split (1 byte), the frame.

use std::time::Duration;

use firstack_tests::model::corpus::prelude;
use firstack_tests::model::{Arrival, Carrier};
use pipeline::packet::view::Side;

use crate::oracle;
use crate::rig::Setup;
use crate::source::Source;

/// Runs the target.
///
/// # Panics
/// If an oracle fails.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let setup = Setup::of(&mut source);
    let how = source.byte();
    let frame = source.rest();
    let mut subject = setup.start();
    let at = Duration::from_secs(1);
    if setup.with_prelude {
        for arrival in prelude(at) {
            let fed = subject.feed(std::slice::from_ref(&arrival));
            oracle::check(&arrival, &fed);
        }
    }
    let carrier = match usize::from(how >> 1) {
        0..64 => Carrier::Whole,
        cut => Carrier::Split(cut.min(frame.len())),
    };
    let first = if how & 1 == 0 { Side::Inside } else { Side::Outside };
    for side in [first, first.other()] {
        let arrival = Arrival { at, side, frame: frame.to_vec(), carrier };
        let fed = subject.feed(std::slice::from_ref(&arrival));
        oracle::check(&arrival, &fed);
    }
    oracle::check_made(&subject.tidy(at + Duration::from_secs(1)));
}
