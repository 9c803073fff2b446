//! Core dumps: the memory of a process with keys must not reach a disk.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// Keeps the kernel from writing this process's memory to a core file, and from giving it to a
/// program that collects them. Other processes of the same user cannot attach to it either.
///
/// # Errors
/// If the kernel refuses; the process may go on then, and its dumps have its keys.
pub fn forbid() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)
}

#[cfg(test)]
mod tests {
    use nix::sys::prctl::get_dumpable;
    use nix::sys::resource::getrlimit;

    use super::*;

    #[test]
    fn neither_a_core_file_nor_a_collector_gets_the_memory() {
        forbid().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        assert_eq!(get_dumpable(), Ok(false));
    }
}
