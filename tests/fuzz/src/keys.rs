//! Target `keys`: the text of a key file.
//!
//! A rejected file's mistakes have their lines and show no word of it; an accepted one has each id
//! once, and gives the same keys when it is written anew.

use firstack::control::keys::{Keys, Purpose};

/// Runs the target.
///
/// # Panics
/// If an oracle fails.
pub fn run(input: &[u8]) {
    for purpose in [Purpose::Sign, Purpose::Check] {
        match Keys::parse("keys", input, purpose) {
            Ok(keys) => accepted(&keys, purpose),
            Err(mistakes) => {
                let lines = input.split(|byte| *byte == b'\n').count();
                assert!(mistakes.iter().count() > 0, "rejected without a word");
                for mistake in &mistakes {
                    assert!((1..=lines).contains(&mistake.line), "line {}", mistake.line);
                    shows_no_key(input, &mistake.message);
                }
            }
        }
    }
}

fn accepted(keys: &Keys, purpose: Purpose) {
    let (all, signs) = (keys.all(), keys.sign_with());
    assert!(!all.is_empty() && all.len() <= 256);
    let mut ids: Vec<_> = all.iter().map(|(id, _)| *id).collect();
    assert!(purpose == Purpose::Check || signs.is_some(), "a gateway without a key that signs");
    assert!(signs.is_none_or(|id| ids.contains(&id)));
    ids.sort_unstable();
    assert!(ids.windows(2).all(|two| two[0] != two[1]), "an id twice");
    let line = |(id, key): &(u8, [u8; 16])| {
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let sign = if signs == Some(*id) { " sign" } else { "" };
        format!("{id} {digits}{sign}\n")
    };
    let text: String = all.iter().map(line).collect();
    let anew = Keys::parse("keys", text.as_bytes(), purpose);
    assert!(anew.is_ok_and(|anew| anew == *keys), "the same keys written anew are others");
    let shown = format!("{keys:?}");
    text.lines().for_each(|line| shows_no_key(line.as_bytes(), &shown));
}

/// The key in the example that messages give.
const EXAMPLE: &str = "000102030405060708090a0b0c0d0e0f";

/// A word as long as half a key is in no message.
fn shows_no_key(text: &[u8], message: &str) {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    for word in words.filter(|word| word.len() >= 16).filter_map(|word| str::from_utf8(word).ok()) {
        assert!(EXAMPLE.contains(word) || !message.contains(word), "shows {word}: {message}");
    }
}
