//! Signals: an end, or the keys read again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What signals ask for: an end (SIGINT, SIGTERM), the keys read again (SIGHUP).
pub(super) struct Signals {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) reload: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn catch() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        use signal_hook::flag::register;
        let signals = Self { stop: Arc::default(), reload: Arc::default() };
        register(SIGINT, Arc::clone(&signals.stop))?;
        register(SIGTERM, Arc::clone(&signals.stop))?;
        register(SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }
}
