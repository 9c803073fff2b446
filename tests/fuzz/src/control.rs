//! Target `control`: the bytes of a request to the control socket, and of an answer.
//!
//! A request that is understood says the same when it is written anew; what is wrong is told on one
//! line.

use firstack::control::socket::{Answer, parse};

/// Runs the target.
///
/// # Panics
/// If an oracle fails.
pub fn run(input: &[u8]) {
    match parse(input) {
        Ok(command) => {
            let text = serde_json::to_string(&command).expect("a command can be written");
            assert!(!text.contains('\n'), "a request of two lines");
            assert_eq!(parse(text.as_bytes()).as_ref(), Ok(&command), "written anew it is another");
            // What follows the line is no part of it.
            for other in ["stats", "busy"] {
                let longer = format!("{text}\n{{\"command\":\"{other}\"}}\n");
                assert_eq!(parse(longer.as_bytes()).as_ref(), Ok(&command));
            }
        }
        Err(error) => {
            let answer = serde_json::to_string(&Answer::Error(error)).expect("an answer");
            assert!(!answer.contains('\n'), "an answer of two lines");
        }
    }
    if let Ok(answer) = serde_json::from_slice::<Answer>(input) {
        let text = serde_json::to_string(&answer).expect("an answer can be written");
        let anew: Answer = serde_json::from_str(&text).expect("and read again");
        assert_eq!(serde_json::to_string(&anew).ok(), Some(text), "written anew it is another");
        let _ = match anew {
            Answer::Stats(snapshot) => snapshot.to_string(),
            Answer::Memory(memory) => memory.to_string(),
            Answer::Done(text) | Answer::Error(text) | Answer::Invalid(text) => text,
        };
    }
}
