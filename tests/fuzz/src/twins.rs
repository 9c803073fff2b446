//! Target `twins`: the same story to two of a role, one of which knows the slow path only. Verdicts,
//! frames and entries must be alike. Packets without a pause between them are one burst.
//!
//! Input: as of [`story`](crate::story).

use firstack_tests::model::Arrival;

use crate::rig::Subject;
use crate::story::{Happening, Story};

/// Runs the target.
///
/// # Panics
/// If the two differ.
pub fn run(input: &[u8]) {
    let mut story = Story::new(input);
    let setup = story.setup;
    let mut twins = [setup.start(), setup.start()];
    twins[1].take_slow_path();
    let mut burst: Vec<Arrival> = Vec::new();
    while let Some(happening) = story.next() {
        match happening {
            Happening::Packet(arrival) => {
                let ends = burst.first().is_some_and(|first| {
                    (first.side, first.at) != (arrival.side, arrival.at) || burst.len() == 32
                });
                if ends {
                    compare(&mut twins, &mut story, &burst);
                    burst.clear();
                }
                burst.push(arrival);
            }
            other => {
                compare(&mut twins, &mut story, &burst);
                burst.clear();
                let left = twins.each_mut().map(|twin| other.act(twin.as_mut()));
                assert_eq!(left[0], left[1], "periodic work differs");
                assert_eq!(twins[0].live(), twins[1].live(), "entries differ");
            }
        }
    }
    compare(&mut twins, &mut story, &burst);
}

fn compare(twins: &mut [Box<dyn Subject>; 2], story: &mut Story<'_>, burst: &[Arrival]) {
    if burst.is_empty() {
        return;
    }
    let [fast, slow] = twins.each_mut().map(|twin| twin.feed(burst));
    assert_eq!(fast.verdicts, slow.verdicts, "fast path and slow path decide differently");
    assert_eq!(fast.left, slow.left, "fast path and slow path send different frames");
    story.has_left(&fast.left);
}
