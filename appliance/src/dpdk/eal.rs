//! DPDK's environment abstraction layer (EAL): initialised once per process, cleaned up when
//! nothing uses it any more.

use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use super::error::{Errno, Error};

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// The least severe level that DPDK logs to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Possible problems.
    Warning,
    /// DPDK's default: a few lines at each start.
    #[default]
    Notice,
    /// Operations.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    fn number(self) -> u32 {
        match self {
            Self::Error => 4,
            Self::Warning => 5,
            Self::Notice => 6,
            Self::Info => 7,
            Self::Debug => 8,
        }
    }
}

/// The arguments of the EAL.
#[derive(Clone, Debug, Default)]
pub struct EalArgs {
    /// One CPU per worker. Workers are lcores 1, 2, ... in this order, each pinned to its CPU.
    /// Lcore 0 is the calling thread, which may run on all CPUs of the process.
    pub worker_cpus: Vec<u32>,
    /// The prefix of this process's DPDK files; DPDK's default if empty.
    pub file_prefix: String,
    /// Memory in MiB without huge pages; `None` uses huge pages.
    pub no_huge_mib: Option<u32>,
    /// PCI addresses of the devices to use. If empty, PCI is disabled: otherwise the EAL would take
    /// every device bound to a DPDK driver.
    pub pci_allow: Vec<String>,
    /// Virtual devices to create at start, such as `net_null0,size=64`. [`super::Port::by_device`]
    /// creates them too, with better error messages.
    pub vdevs: Vec<String>,
    /// DPDK's log level.
    pub log_level: LogLevel,
    /// Further EAL arguments, appended as they are.
    pub extra: Vec<String>,
}

impl EalArgs {
    /// Returns the arguments of the EAL, without the program's name.
    ///
    /// # Errors
    /// If the CPUs of this process cannot be read.
    pub fn build(&self) -> Result<Vec<String>, Error> {
        let mut args = vec!["--lcores".to_owned(), self.lcores(&allowed_cpus()?)];
        if !self.file_prefix.is_empty() {
            args.push(format!("--file-prefix={}", self.file_prefix));
        }
        if let Some(mib) = self.no_huge_mib {
            args.extend(["--no-huge".to_owned(), "-m".to_owned(), mib.to_string()]);
        }
        if self.pci_allow.is_empty() {
            args.push("--no-pci".to_owned());
        }
        for address in &self.pci_allow {
            args.extend(["-a".to_owned(), address.clone()]);
        }
        args.extend(self.vdevs.iter().map(|vdev| format!("--vdev={vdev}")));
        args.push(format!("--log-level={}", self.log_level.number()));
        args.extend(self.extra.iter().cloned());
        Ok(args)
    }

    /// Returns the map of lcores to CPUs: `0@(all),1@c0,2@c1`.
    fn lcores(&self, all: &str) -> String {
        let mut map = format!("0@({all})");
        for (index, cpu) in self.worker_cpus.iter().enumerate() {
            map.push_str(&format!(",{}@{cpu}", index + 1));
        }
        map
    }
}

/// Returns the CPUs this thread may run on, in the kernel's notation: `0-3,8`.
fn allowed_cpus() -> Result<String, Error> {
    let status = fs::read_to_string("/proc/thread-self/status").map_err(Error::Cpus)?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .map(|list| list.trim().to_owned())
        .ok_or_else(|| Error::Cpus(io::Error::other("no Cpus_allowed_list in the kernel's status")))
}

/// A running DPDK. Everything created from it keeps it running; it is cleaned up when the last user
/// is dropped.
#[derive(Debug)]
pub struct Eal {
    pub(super) runtime: Arc<Runtime>,
}

impl Eal {
    /// Starts DPDK with these EAL arguments (see [`EalArgs`]), without the program's name. The
    /// calling thread becomes lcore 0. DPDK logs to stderr.
    ///
    /// # Errors
    /// If DPDK was started before in this process, is not the version built for, or rejects an
    /// argument.
    pub fn init(args: &[String]) -> Result<Self, Error> {
        if let Some((what, rust, c)) = dpdk_sys::layout_mismatch() {
            return Err(Error::Layout { what, rust, c });
        }
        let mut argv = Vec::with_capacity(args.len() + 2);
        for arg in std::iter::once("firstack").chain(args.iter().map(String::as_str)) {
            argv.push(c_string(arg)?.into_raw());
        }
        if INITIALISED.swap(true, Ordering::SeqCst) {
            return Err(Error::AlreadyInitialised);
        }
        let count = argv.len() as i32;
        argv.push(std::ptr::null_mut());
        // The EAL may keep pointers to its arguments, so they are leaked.
        let argv: &'static mut [*mut c_char] = argv.leak();
        // SAFETY: `argv` is `count` writable NUL-terminated strings and a null pointer, never
        // freed; the flag above makes this the only call in this process.
        let status = unsafe {
            dpdk_sys::firstack_log_to_stderr();
            dpdk_sys::rte_eal_init(count, argv.as_mut_ptr())
        };
        if status < 0 {
            return Err(Error::Init { args: args.join(" "), reason: Errno::last() });
        }
        Ok(Self { runtime: Arc::new(Runtime::default()) })
    }

    /// Sets DPDK's log level.
    pub fn set_log_level(&self, level: LogLevel) {
        // SAFETY: sets an integer of DPDK.
        unsafe { dpdk_sys::rte_log_set_global_level(level.number()) };
    }
}

/// Converts a string for C.
pub(super) fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Nul(text.to_owned()))
}

/// A pool that exists until the EAL is cleaned up.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawPool {
    pub(super) pool: NonNull<dpdk_sys::rte_mempool>,
    pub(super) size: u32,
}

// SAFETY: a mempool created without the single-producer and single-consumer flags, as all here are,
// may be used from any thread; the pointer stays valid while a `Runtime` is held.
unsafe impl Send for RawPool {}
// SAFETY: as above.
unsafe impl Sync for RawPool {}

impl RawPool {
    /// Returns the number of buffers in the pool.
    pub(super) fn available(self) -> u32 {
        // SAFETY: the pool exists while the caller holds its runtime (see `RawPool`).
        unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) }
    }
}

/// The state that keeps DPDK running, held by all users of its memory.
#[derive(Debug, Default)]
pub(super) struct Runtime {
    /// All pools ever created.
    pub(super) pools: Mutex<Vec<RawPool>>,
    /// The numbers of ports that have an owner.
    pub(super) ports: Mutex<BTreeSet<u16>>,
    /// Held while a worker is launched: DPDK does not allow two launches at once.
    pub(super) launching: Mutex<()>,
    /// The number of workers launched and not joined.
    pub(super) running: AtomicUsize,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let pools = self.pools.get_mut().unwrap_or_else(PoisonError::into_inner);
        let held: u32 = pools.iter().map(|pool| pool.size.saturating_sub(pool.available())).sum();
        let running = self.running.load(Ordering::SeqCst);
        if held > 0 || running > 0 {
            tracing::warn!(
                held,
                running,
                "DPDK not cleaned up, buffers or workers are still in use"
            );
            return;
        }
        // SAFETY: no port, queue or pool handle is left, as each holds this runtime; no worker
        // runs; no mbuf is in use, as just counted. So nothing refers to the memory unmapped here.
        let status = unsafe { dpdk_sys::rte_eal_cleanup() };
        if status < 0 {
            tracing::warn!("DPDK cannot clean up: {}", Errno::from_status(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_lcore_floats_and_each_worker_is_pinned() {
        let args = EalArgs { worker_cpus: vec![2, 3], ..EalArgs::default() };
        assert_eq!(args.lcores("0-3,8"), "0@(0-3,8),1@2,2@3");
    }

    #[test]
    fn without_a_pci_device_the_bus_is_left_alone() {
        let mut args = EalArgs { no_huge_mib: Some(64), ..EalArgs::default() };
        assert!(args.build().unwrap().contains(&"--no-pci".to_owned()));
        args.pci_allow = vec!["0000:01:00.0".to_owned()];
        let built = args.build().unwrap();
        assert!(!built.contains(&"--no-pci".to_owned()));
        assert!(built.windows(2).any(|pair| pair == ["-a", "0000:01:00.0"]));
    }
}
