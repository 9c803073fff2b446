//! What a process leaves that is killed between any two stores: tests of the roles use it with their
//! own packets.

use std::collections::BTreeSet;

use crate::base::time::Ticks;
use crate::role::Role;
use crate::table::{Entry, Imported, Kept, Key, State, Table};
use crate::wire::family::Version;

/// The entries of both families as text.
pub(in crate::role) type Content = [BTreeSet<String>; 2];

/// Returns the entries of a table as text, as `shown` makes it of an entry.
pub(in crate::role) fn content<K: Key, S: State, V: Copy>(
    table: &Table<K, S, V>,
    shown: impl Fn(&Entry<K, S, V>) -> String,
) -> BTreeSet<String> {
    table.live().map(shown).collect()
}

/// Adopts memory of tables in a role that has seen no packet.
pub(in crate::role) fn adopt<R: Role>(memory: &[&[u8]], mut fresh: R, now: Ticks) -> (R, Imported) {
    fresh.place_tables([None, None]).unwrap();
    let kept: Vec<_> = memory.iter().map(|bytes| Kept::new(bytes).unwrap()).collect();
    assert!(kept.iter().all(|kept| R::may_import(kept).is_ok()));
    let done = fresh.import(&kept, |_| true, now);
    (fresh, done)
}

/// The tables before something and after it, and at each point between two stores of it.
pub(in crate::role) struct Killed {
    pub(in crate::role) before: [Vec<u8>; 2],
    pub(in crate::role) seen: Vec<Vec<u8>>,
    pub(in crate::role) after: [Vec<u8>; 2],
}

impl Killed {
    /// Checks that the next process finds the tables as before or as after. Returns at how many of
    /// the points a change was not finished.
    pub(in crate::role) fn check<R: Role>(
        &self,
        now: Ticks,
        fresh: impl Fn() -> R,
        view: impl Fn(&R) -> Content,
    ) -> usize {
        let [before, after] = [&self.before, &self.after].map(|memory| {
            let (role, done) = adopt(&memory.each_ref().map(Vec::as_slice), fresh(), now);
            assert_eq!((done.torn, done.invalid), (0, 0));
            view(&role)
        });
        let mut unfinished = 0;
        for memory in &self.seen {
            let version = Kept::new(memory).map(|kept| kept.version());
            let family = version.unwrap_or(Version::V4) as usize;
            let (role, done) = adopt(&[memory], fresh(), now);
            let found = &view(&role)[family];
            let is_whole = *found == before[family] || *found == after[family];
            assert!(is_whole, "{:?}\n{found:#?}\n{:?}", before[family], after[family]);
            assert!(done.torn <= 1 && done.invalid == 0);
            unfinished += done.torn as usize;
        }
        unfinished
    }
}
