//! File descriptors that other programs must not inherit.
#![allow(unsafe_code)]

use std::io;

/// Makes the kernel close all files of this process, except stdin, stdout and stderr, in the
/// programs that it starts. Rust opens files that way, libraries in C do not: a program would hold
/// the devices and locks of this process.
///
/// # Errors
/// If the kernel is older than 5.11.
pub fn close_on_exec() -> io::Result<()> {
    // SAFETY: sets a flag of descriptors; none is closed.
    let status = unsafe {
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn a_program_inherits_no_file() {
        let file = File::open("/dev/null").unwrap();
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let files = || {
            let out = Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout;
            out.split(|byte| *byte == b'\n').count()
        };
        let inherited = files();
        close_on_exec().unwrap();
        assert!(files() < inherited);
    }
}
