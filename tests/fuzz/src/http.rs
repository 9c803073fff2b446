//! Target `http`: what a server answers to a health check.
//!
//! A second reading of the status line agrees, and what is decided stays so whatever follows.

use firstack::control::health::http::{Line, NEEDED, status};

/// Runs the target.
///
/// # Panics
/// If an oracle fails.
pub fn run(input: &[u8]) {
    let mut decided = Line::More;
    for length in 0..=input.len() {
        let now = status(&input[..length]);
        assert!(decided == Line::More || now == decided, "{decided:?}, then {now:?}");
        decided = now;
    }
    assert!(decided != Line::More || input.len() < NEEDED, "still no decision");
    assert_eq!(decided, second(input));
}

/// A second reading: by a pattern, `d` a digit, `n` one from 1 to 9, `e` the end of the code.
fn second(input: &[u8]) -> Line {
    let pattern = b"HTTP/1.d ndde";
    for (byte, expected) in input.iter().zip(pattern) {
        let fits = match expected {
            b'd' => byte.is_ascii_digit(),
            b'n' => (b'1'..=b'9').contains(byte),
            b'e' => b" \r\n".contains(byte),
            other => byte == other,
        };
        if !fits {
            return Line::Garbage;
        }
    }
    match input.get(9..12).filter(|_| input.len() >= pattern.len()) {
        Some(code) => {
            let code = str::from_utf8(code).ok().and_then(|code| code.parse().ok());
            Line::Status(code.expect("three digits"))
        }
        None => Line::More,
    }
}
