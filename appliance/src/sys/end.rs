//! Ends of the process that are no orderly ones: it cannot go on, and its service manager starts it
//! again.

use std::panic;
use std::process;

/// The seconds that a last log line may take.
const LAST_WORDS: u32 = 2;

/// Lets `log` write the last line and ends the process by SIGABRT. Ports, buffers and tables are left as
/// they are. If the log is what is stuck, SIGALRM ends the process instead.
pub fn abort(log: impl FnOnce()) -> ! {
    nix::unistd::alarm::set(LAST_WORDS);
    log();
    process::abort()
}

/// Makes every panic end the process, in builds in which it would unwind as well: what a thread that is
/// gone would have done, nobody does. The panic's message and a log line come first.
pub fn abort_on_panic() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        abort(|| {
            usual(panic);
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("worker").to_owned();
            tracing::error!(thread, "panic, the process ends: {panic}");
        });
    }));
}
