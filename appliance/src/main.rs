//! firstack: gives every TCP connection to the replica that answers first.

use std::process::ExitCode;

fn main() -> ExitCode {
    appliance::cli::main()
}
