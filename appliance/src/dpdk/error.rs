//! What can go wrong in DPDK, told so that an operator knows which device and what to do.

use std::ffi::CStr;
use std::fmt;

/// A DPDK error number, shown as DPDK's own words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// From a return value, which DPDK makes negative.
    pub(super) fn from_status(status: i32) -> Self {
        Self(status.saturating_abs())
    }

    /// From the calling thread's `rte_errno`.
    pub(super) fn last() -> Self {
        // SAFETY: reads a thread-local integer; needs no initialised EAL.
        Self(unsafe { dpdk_sys::firstack_errno() })
    }

    /// The positive errno value.
    pub fn code(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Many drivers return a bare -1, which reads as EPERM.
        if matches!(self.0, 0 | libc::EPERM) {
            return f.write_str("no reason given, DPDK's log may tell more");
        }
        // SAFETY: rte_strerror always returns a NUL-terminated string, static or in a buffer
        // of the calling thread that stands until its next call on this thread.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(f, "{}", text.to_string_lossy())
    }
}

/// Turns DPDK's status into its non-negative value or the errno in it.
pub(super) fn check(status: i32) -> Result<i32, Errno> {
    if status < 0 { Err(Errno::from_status(status)) } else { Ok(status) }
}

/// What the safe layer reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The EAL can be started once in the life of a process, whether or not that went well.
    #[error("DPDK has been initialised before in this process")]
    AlreadyInitialised,
    /// The DPDK at run time or build time is not the one that Rust's structures describe.
    #[error("DPDK's mbuf differs from the one built for: {what} is {c} bytes, expected {rust}")]
    Layout {
        /// The field, or `size` or `align`.
        what: &'static str,
        /// What Rust has, in bytes.
        rust: usize,
        /// What C has, in bytes.
        c: usize,
    },
    /// A string for DPDK holds a NUL byte.
    #[error("{0:?} holds a NUL byte")]
    Nul(String),
    /// The processors this process may run on cannot be read.
    #[error("cannot tell which CPUs this process may use: {0}")]
    Cpus(#[source] std::io::Error),
    /// `rte_eal_init` failed.
    #[error("DPDK did not start with the arguments `{args}`: {reason}")]
    Init {
        /// The EAL arguments.
        args: String,
        /// What DPDK said.
        reason: Errno,
    },
    /// A pool could not be made.
    #[error("pool {name}: cannot create {count} buffers of {data_room} bytes: {reason}")]
    Pool {
        /// The pool's name.
        name: String,
        /// Buffers asked for.
        count: u32,
        /// Bytes asked for in each.
        data_room: u16,
        /// What DPDK said.
        reason: Errno,
    },
    /// DPDK has no such device and could not create it.
    #[error("device {device}: not found and cannot be created: {reason}")]
    NoDevice {
        /// The device as given.
        device: String,
        /// What DPDK said.
        reason: Errno,
    },
    /// The device is none of DPDK's, by its name.
    #[error("device {device}: no such device, and no driver of that name to create it")]
    NoDriver {
        /// The device as given.
        device: String,
    },
    /// The device is there but has no port of its name.
    #[error("device {device}: DPDK knows it but it has no network port")]
    NoPort {
        /// The device as given.
        device: String,
    },
    /// A port has one owner.
    #[error("device {device}: in use already")]
    PortTaken {
        /// The device as given.
        device: String,
    },
    /// A step of a port's set-up or operation failed.
    #[error("device {device}: cannot {step}: {reason}")]
    Port {
        /// The device's name.
        device: String,
        /// What was tried.
        step: &'static str,
        /// What DPDK said.
        reason: Errno,
    },
    /// The call does not fit the port's state.
    #[error("device {device}: cannot {step}: {why}")]
    State {
        /// The device's name.
        device: String,
        /// What was tried.
        step: &'static str,
        /// Why not now.
        why: &'static str,
    },
    /// A worker could not be launched.
    #[error("lcore {lcore}: cannot launch a worker: {reason}")]
    Launch {
        /// The lcore.
        lcore: u32,
        /// What DPDK said.
        reason: Errno,
    },
    /// A worker ended by a panic.
    #[error("lcore {lcore}: the worker panicked: {message}")]
    Panicked {
        /// The lcore.
        lcore: u32,
        /// The panic's message.
        message: String,
    },
}
