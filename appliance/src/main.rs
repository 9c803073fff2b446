//! firstack: gives every TCP connection to the replica that answers first.

use std::process::ExitCode;

use firstack::sys::hugepages::HugePages;

#[global_allocator]
static MEMORY: HugePages = HugePages;

fn main() -> ExitCode {
    firstack::cli::main()
}
