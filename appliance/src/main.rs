//! firstack: gives every TCP connection to the replica that answers first.

use std::process::ExitCode;

use appliance::memory::HugePages;

#[global_allocator]
static MEMORY: HugePages = HugePages;

fn main() -> ExitCode {
    appliance::cli::main()
}
