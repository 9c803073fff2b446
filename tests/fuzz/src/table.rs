//! Target `table`: the memory of tables that a process has left, changed anywhere, and taken over.
//!
//! Input: role and set-up (2 bytes), then records of 4 bytes: where (2 bytes; the upper bit is the
//! family), how far beyond that (1 byte), and what is changed there (1 byte, exclusive or).

use std::time::Duration;

use firstack_tests::model::corpus::prelude;
use pipeline::table::{Imported, Kept};

use crate::rig::Setup;
use crate::source::Source;

/// Runs the target.
///
/// # Panics
/// If an oracle fails.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let setup = Setup::of(&mut source);
    let mut first = setup.start();
    first.place();
    let at = Duration::from_secs(1);
    for arrival in prelude(at) {
        first.feed(std::slice::from_ref(&arrival));
    }
    let mut memory = first.leave();
    while !source.is_empty() {
        let [low, high, beyond, change] = std::array::from_fn(|_| source.byte());
        let family = &mut memory[usize::from(high >> 7)];
        let at = (usize::from(high & 0x7f) << 8 | usize::from(low)) + usize::from(beyond);
        let at = at % family.len();
        family[at] ^= change;
    }
    let mut next = setup.start();
    next.place();
    let done = next.take_over(&memory, Duration::from_secs(2));
    let Imported { adopted, expired, invalid, unplaced, others, torn } = done;
    let used: usize =
        memory.iter().filter_map(|bytes| Kept::new(bytes).ok()).map(|k| k.places()).sum();
    assert!(adopted + expired + invalid + unplaced + others <= used as u64, "{done:?} of {used}");
    assert!(torn <= 2 && others == 0, "{done:?}");
    // What was taken over is as good as what the role makes itself.
    for arrival in prelude(Duration::from_secs(3)) {
        next.feed(std::slice::from_ref(&arrival));
    }
    next.tidy(Duration::from_secs(4));
    let live: usize = next.live().iter().sum();
    assert!(live <= 2 * setup.connections.max(256), "{live} entries");
}
