//! Bytes back to the notation: for messages about what differs, and to write expectations anew.

mod change;
mod complete;
mod dissect;
mod line;

use super::notation::{Scope, parse};
use super::to_hex;

/// The most bytes that are shown as patches; beyond that a frame is shown byte by byte.
const PATCHES: usize = 8;

/// The notation for a frame, to be read in the same scope.
pub fn show(bytes: &[u8], scope: Scope<'_>) -> String {
    let raw = || format!("raw {}", to_hex(bytes));
    if scope.input.is_some_and(|input| input.bytes() == bytes) {
        return "same".to_owned();
    }
    let Some(mut frame) = dissect::frame(bytes) else { return raw() };
    let Some(differing) = differences(bytes, &frame.bytes()) else { return raw() };
    frame.patches = differing.iter().map(|&at| (at, vec![bytes[at]])).collect();
    let short = scope.input.and_then(|input| change::of_frame(&frame, input, scope));
    let text = short.unwrap_or_else(|| line::frame(&frame, scope));
    match parse(&text, scope) {
        Ok(again) if again.bytes() == bytes => text,
        _ => raw(),
    }
}

/// Where the bytes differ; `None` when that is in too many places.
fn differences(bytes: &[u8], rebuilt: &[u8]) -> Option<Vec<usize>> {
    let differing: Vec<_> =
        (0..bytes.len().min(rebuilt.len())).filter(|&at| bytes[at] != rebuilt[at]).collect();
    (rebuilt.len() == bytes.len() && differing.len() <= PATCHES).then_some(differing)
}

#[cfg(test)]
mod tests;
