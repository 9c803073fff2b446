//! The fuzz targets: functions of bytes that panic when an oracle fails (docs/fuzzing.md).
//!
//! libFuzzer calls them with what it makes up (`libfuzzer/`), and a test with the files of
//! `corpus/`. What they have in common with the property tests, the packet builder, the roles and
//! the second decoder, is in the crate `firstack-tests`.

pub mod capture;
pub mod config;
pub mod control;
pub mod frame;
pub mod http;
pub mod keys;
mod oracle;
mod rig;
mod source;
pub mod story;
pub mod table;
pub mod twins;

pub use rig::verdicts_seen;

/// A function that is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its corpus.
    pub name: &'static str,
    /// Runs it with an input.
    pub run: fn(&[u8]),
    /// The longest input that makes sense, in bytes.
    pub longest: usize,
    /// Length in bytes of what an input is made of: a header, and records. Mutations of libFuzzer
    /// are enough for the others.
    pub records: Option<(usize, usize)>,
}

const fn bytes(name: &'static str, run: fn(&[u8]), longest: usize) -> Target {
    Target { name, run, longest, records: None }
}

const fn records(name: &'static str, run: fn(&[u8])) -> Target {
    let records = Some((story::HEADER, story::RECORD));
    Target { name, run, longest: story::LONGEST, records }
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    bytes("frame", frame::run, 4096),
    records("story", story::run),
    records("twins", twins::run),
    bytes("config", config::run, 8192),
    bytes("keys", keys::run, 2048),
    bytes("control", control::run, 1024),
    bytes("capture", capture::run, 8192),
    bytes("http", http::run, 64),
    Target { records: Some((2, 4)), ..bytes("table", table::run, 1026) },
];

/// Returns the target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

impl Target {
    /// Changes `data`, an input of `length` bytes in a buffer that may hold more, as `seed` says,
    /// and returns its new length; `None` leaves it to libFuzzer. Inserts, removes, repeats,
    /// exchanges and changes whole records.
    pub fn mutate(&self, data: &mut [u8], length: usize, seed: u32) -> Option<usize> {
        let (header, record) = self.records?;
        let count = length.checked_sub(header)? / record;
        let [what, one, other, _] = seed.to_le_bytes().map(usize::from);
        let place = |number: usize| header + number * record;
        let has_room = place(count + 1) <= data.len().min(self.longest);
        let end = place(count);
        if count == 0 {
            return None;
        }
        let (one, other) = (place(one % count), place(other % count));
        match what % 8 {
            // A record again, behind another.
            0 | 1 if has_room => {
                data.copy_within(one..end, one + record);
                let copied = if other >= one { other + record } else { other };
                data.copy_within(copied..copied + record, one);
                Some(end + record)
            }
            2 if count > 1 => {
                data.copy_within(one + record..end, one);
                Some(end - record)
            }
            3 => {
                (0..record).for_each(|at| data.swap(one + at, other + at));
                Some(end)
            }
            _ => None,
        }
    }
}
