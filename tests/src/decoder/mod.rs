//! Frames past decoders that are not ours: `etherparse` and `tshark`, lengths and checksums
//! checked.

mod strict;
mod tshark;

pub use strict::check;

/// Frames, each with what it is.
#[derive(Clone, Debug, Default)]
pub struct Frames(Vec<(String, Vec<u8>)>);

impl Frames {
    /// Adds one.
    pub fn add(&mut self, what: String, bytes: Vec<u8>) {
        self.0.push((what, bytes));
    }

    /// What either decoder has to say against them.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<_> = self
            .0
            .iter()
            .filter_map(|(what, bytes)| {
                Some(format!("{what}: etherparse: {}", check(bytes).err()?))
            })
            .collect();
        let bytes: Vec<_> = self.0.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        match tshark::complaints(&bytes) {
            Ok(found) => complaints.extend(
                found.into_iter().map(|(at, text)| format!("{}: tshark: {text}", self.0[at].0)),
            ),
            Err(error) => complaints.push(error),
        }
        complaints
    }
}
