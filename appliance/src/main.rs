//! firstack: gives each TCP connection to the replica whose SYN/ACK arrives first.
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

use std::process::ExitCode;

use firstack::sys::hugepages::HugePages;

#[global_allocator]
static MEMORY: HugePages = HugePages;

fn main() -> ExitCode {
    firstack::cli::main()
}
