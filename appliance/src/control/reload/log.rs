//! The process's log, whose level a reload changes.

use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

/// Sets the level of the log.
type SetLevel = Box<dyn Fn(Level) + Send + Sync>;

static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// Begins to log to stderr, what is at least as severe as `level`.
pub fn begin(level: Level) {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    let set = move |level| {
        // It fails only if the log has ended.
        let _ = handle.reload(LevelFilter::from_level(level));
    };
    let _ = SET_LEVEL.set(Box::new(set));
}

/// Logs what is at least as severe as `level` from now on. Without a log, does nothing.
pub fn set_level(level: Level) {
    if let Some(set) = SET_LEVEL.get() {
        set(level);
    }
}
