//! `firstack run`: reads the file, begins the log, and says what kept the process from starting.

use std::path::Path;
use std::time::Duration;

use super::{FAILED, Failure, MISCONFIGURED, RunArgs, failed, misconfigured, print_counters};
use crate::config::{Config, DEVICE_KEYS, SOCKET_KEY, Source};
use crate::control::reload::log;
use crate::run::upgrade::TakeOver;
use crate::run::{Error, Options, Outcome};
use crate::sys;

/// Checks that this machine has what a configuration names.
fn present(path: &Path, config: &Config) -> Result<(), Failure> {
    config.check_presence(&path.display().to_string()).map_err(misconfigured)
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let take_over = args.take_over.then(TakeOver::begin);
    let mut take_over = take_over.transpose().map_err(failed)?;
    let result = run_with(args, take_over.as_mut());
    if let (Err((_, message)), Some(take_over)) = (&result, &mut take_over) {
        take_over.failed(message.trim_start_matches("firstack: "));
    }
    result
}

fn run_with(args: &RunArgs, take_over: Option<&mut TakeOver>) -> Result<(), Failure> {
    let source = Source::read(&args.config).map_err(misconfigured)?;
    let config = source.parse().map_err(misconfigured)?;
    present(&args.config, &config)?;
    log::begin(config.log.level);
    // Before the keys are read.
    if !args.core_dumps
        && let Err(error) = sys::dumps::forbid()
    {
        tracing::warn!(%error, "cannot forbid core dumps, which would have the keys");
    }
    sys::end::abort_on_panic();
    let exit_when_idle = args.exit_when_idle.map(Duration::from_millis);
    let options = Options { exit_when_idle, forget: args.forget, source: Some(source) };
    let outcome = crate::run::run(&config, options, take_over);
    let Outcome { snapshot, missing } =
        outcome.map_err(|error| not_started(&config, &args.config, &error))?;
    print_counters(&snapshot, args.json)?;
    match missing {
        0 => Ok(()),
        _ => Err(failed(format!("{missing} packet buffers were not returned to their pool"))),
    }
}

/// Returns why a run failed: with the file, line and key where one is to be changed.
fn not_started(config: &Config, file: &Path, error: &Error) -> Failure {
    let text = error.to_string();
    let (code, keys) = match error {
        Error::Port { side, source } => {
            let key = DEVICE_KEYS[*side as usize];
            let message = format!("{source}; expected a device that DPDK can open");
            return (MISCONFIGURED, at_keys(config, file, [(key, &*message)]));
        }
        Error::Refused(obstacles) => {
            let code = if obstacles.pass() { FAILED } else { MISCONFIGURED };
            (code, obstacles.iter().map(|found| (found.key, &*found.message)).collect())
        }
        Error::Control(_) => (FAILED, vec![(SOCKET_KEY, &*text)]),
        Error::Keys(_) => return (MISCONFIGURED, text),
        error => return failed(error),
    };
    (code, at_keys(config, file, keys))
}

fn at_keys<'m>(
    config: &Config,
    file: &Path,
    messages: impl IntoIterator<Item = (&'static str, &'m str)>,
) -> String {
    config.errors_at_start(&file.display().to_string(), messages).to_string()
}
