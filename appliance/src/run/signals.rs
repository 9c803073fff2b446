//! Signals: SIGINT and SIGTERM stop the process, SIGHUP reloads the configuration.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Flags set by signals: `stop` by SIGINT and SIGTERM, `reload` by SIGHUP.
pub(super) struct Signals {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) reload: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers.
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
