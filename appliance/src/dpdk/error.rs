//! Errors of the safe layer, with the device they concern.

use std::ffi::CStr;
use std::fmt;

/// A DPDK error number. Displayed as DPDK's text for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// Creates an error number from a return value, which is negative in DPDK.
    pub(super) fn from_status(status: i32) -> Self {
        Self(status.saturating_abs())
    }

    /// Returns the calling thread's `rte_errno`.
    pub(super) fn last() -> Self {
        // SAFETY: reads a thread-local integer; needs no initialised EAL.
        Self(unsafe { dpdk_sys::firstack_errno() })
    }

    /// Returns the error number, which is positive.
    pub fn code(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Many drivers return a bare -1, which reads as EPERM.
        if matches!(self.0, 0 | libc::EPERM) {
            return f.write_str("no reason given; see DPDK's log");
        }
        // SAFETY: rte_strerror always returns a NUL-terminated string: static, or in a buffer of
        // the calling thread that is valid until its next call on this thread.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(f, "{}", text.to_string_lossy())
    }
}

/// Converts a status of DPDK to its non-negative value, or to the error number in it.
pub(super) fn check(status: i32) -> Result<i32, Errno> {
    if status < 0 { Err(Errno::from_status(status)) } else { Ok(status) }
}

/// An error of the safe layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The EAL was started before. It can be started only once in a process, whether or not that
    /// succeeded.
    #[error("DPDK was started before in this process")]
    AlreadyInitialised,
    /// DPDK's structures differ from those that Rust was built for.
    #[error(
        "DPDK's mbuf differs from the one firstack was built for: {what} is {c} bytes, expected {rust}"
    )]
    Layout {
        /// The field, or `size` or `align`.
        what: &'static str,
        /// The value in Rust, in bytes.
        rust: usize,
        /// The value in C, in bytes.
        c: usize,
    },
    /// A string for DPDK contains a NUL byte.
    #[error("{0:?} contains a NUL byte")]
    Nul(String),
    /// The CPUs that this process may run on cannot be read.
    #[error("cannot read which CPUs this process may use: {0}")]
    Cpus(#[source] std::io::Error),
    /// DPDK did not start (`rte_eal_init`).
    #[error("DPDK did not start with the arguments `{args}`: {reason}")]
    Init {
        /// The EAL arguments.
        args: String,
        /// DPDK's reason.
        reason: Errno,
    },
    /// A pool could not be created.
    #[error("pool {name}: cannot create {count} buffers of {data_room} bytes: {reason}")]
    Pool {
        /// The pool's name.
        name: String,
        /// The number of buffers requested.
        count: u32,
        /// Bytes requested in each buffer.
        data_room: u16,
        /// DPDK's reason.
        reason: Errno,
    },
    /// DPDK has no such device and cannot create it.
    #[error("device {device}: not found and cannot be created: {reason}")]
    NoDevice {
        /// The device, as given by the caller.
        device: String,
        /// DPDK's reason.
        reason: Errno,
    },
    /// No driver of DPDK matches the device's name.
    #[error("device {device}: no such device, and no driver of that name to create it")]
    NoDriver {
        /// The device, as given by the caller.
        device: String,
    },
    /// The device exists but has no port of its name.
    #[error("device {device}: known to DPDK, but has no network port")]
    NoPort {
        /// The device, as given by the caller.
        device: String,
    },
    /// The port has an owner already.
    #[error("device {device}: already in use")]
    PortTaken {
        /// The device, as given by the caller.
        device: String,
    },
    /// An operation on a port failed.
    #[error("device {device}: cannot {step}: {reason}")]
    Port {
        /// The device's name.
        device: String,
        /// The operation.
        step: &'static str,
        /// DPDK's reason.
        reason: Errno,
    },
    /// The operation is not possible in the port's state.
    #[error("device {device}: cannot {step}: {why}")]
    State {
        /// The device's name.
        device: String,
        /// The operation.
        step: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// A worker could not be launched.
    #[error("lcore {lcore}: cannot launch a worker: {reason}")]
    Launch {
        /// The lcore.
        lcore: u32,
        /// DPDK's reason.
        reason: Errno,
    },
    /// A worker ended without a result.
    #[error("lcore {lcore}: the worker's outcome is lost")]
    Lost {
        /// The lcore.
        lcore: u32,
    },
}
