//! Workers on DPDK's lcores, and the time stamp counter.

use std::ffi::{c_int, c_void};
use std::iter;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, PoisonError};

use super::eal::{Eal, Runtime};
use super::error::{Error, check};

/// Returns the CPU's time stamp counter; see [`Eal::cycles_per_second`].
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction, and it accesses no memory.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter register.
    unsafe {
        dpdk_sys::firstack_cycles()
    }
}

impl Eal {
    /// Returns the frequency of [`cycles`] per second, as measured by DPDK at its start.
    pub fn cycles_per_second(&self) -> u64 {
        // SAFETY: reads an integer set by `rte_eal_init`.
        unsafe { dpdk_sys::rte_get_tsc_hz() }
    }

    /// Returns the lcores for workers, in ascending order.
    pub fn worker_lcores(&self) -> Vec<u32> {
        // SAFETY: reads the EAL's table of lcores, which is fixed since `rte_eal_init`. The
        // first call starts at u32::MAX, DPDK's "before the first".
        let next = |lcore| unsafe { dpdk_sys::rte_get_next_lcore(lcore, 1, 0) };
        iter::successors(Some(next(u32::MAX)), |lcore| Some(next(*lcore)))
            .take_while(|lcore| *lcore < dpdk_sys::FIRSTACK_MAX_LCORE)
            .collect()
    }

    /// Runs `work` on a worker lcore. DPDK is not cleaned up before the worker is joined.
    ///
    /// # Errors
    /// If the lcore is not one of [`Eal::worker_lcores`], or has work already.
    pub fn launch<F, T>(&self, lcore: u32, work: F) -> Result<Worker<T>, Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let refused = |status| Error::Launch { lcore, reason: super::Errno::from_status(status) };
        if !self.worker_lcores().contains(&lcore) {
            return Err(refused(libc::EINVAL));
        }
        let (sender, receiver) = sync_channel(1);
        let launch = Box::into_raw(Box::new(Launch { lcore, work, sender }));
        let guard = self.runtime.launching.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lcore is a worker's, and one thread at a time launches, under the lock. The
        // trampoline takes ownership of the box, and has the same `F` and `T`.
        let status = unsafe {
            dpdk_sys::rte_eal_remote_launch(Some(trampoline::<F, T>), launch.cast(), lcore)
        };
        drop(guard);
        if let Err(reason) = check(status) {
            // SAFETY: DPDK refused to launch, so this is the only pointer to the box.
            drop(unsafe { Box::from_raw(launch) });
            return Err(Error::Launch { lcore, reason });
        }
        self.runtime.running.fetch_add(1, Ordering::SeqCst);
        Ok(Worker { lcore, receiver, runtime: Arc::clone(&self.runtime) })
    }
}

/// The work for a worker lcore.
struct Launch<F, T> {
    lcore: u32,
    work: F,
    sender: SyncSender<T>,
}

/// Runs a [`Launch`]. A panic must not unwind into its caller, which is C; it ends the process, as it
/// does where panics abort.
unsafe extern "C" fn trampoline<F, T>(argument: *mut c_void) -> c_int
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: `Eal::launch` made the pointer from a box of this type, for this one call.
    let launch = unsafe { Box::from_raw(argument.cast::<Launch<F, T>>()) };
    let Launch { lcore, work, sender } = *launch;
    let Ok(value) = panic::catch_unwind(AssertUnwindSafe(work)) else {
        // What it owned may be in any state, and its packets go nowhere. The panic's own message is
        // out already.
        tracing::error!(lcore, "worker panicked, the process ends");
        process::abort();
    };
    // Fails if the handle is gone; then the result is not needed.
    drop(sender.send(value));
    0
}

/// A launched worker.
#[derive(Debug)]
pub struct Worker<T> {
    lcore: u32,
    receiver: Receiver<T>,
    runtime: Arc<Runtime>,
}

impl<T> Worker<T> {
    /// Returns the lcore that the worker runs on.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }

    /// Blocks until the worker ends, and returns its result.
    ///
    /// # Errors
    /// If the outcome is lost.
    pub fn join(self) -> Result<T, Error> {
        let outcome = self.receiver.recv();
        self.finish(outcome)
    }

    /// Returns the worker's result if it has ended, otherwise the worker.
    ///
    /// # Errors
    /// The inner error if the outcome is lost.
    pub fn try_join(self) -> Result<Result<T, Error>, Self> {
        match self.receiver.try_recv() {
            Ok(outcome) => Ok(self.finish(Ok(outcome))),
            Err(TryRecvError::Disconnected) => Ok(self.finish(Err(RecvError))),
            Err(TryRecvError::Empty) => Err(self),
        }
    }

    fn finish(self, outcome: Result<T, RecvError>) -> Result<T, Error> {
        // DPDK waits by spinning, which is short now: the worker has sent its result.
        // SAFETY: the lcore is a worker's, and runs what `Eal::launch` gave it or is done.
        unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore) };
        self.runtime.running.fetch_sub(1, Ordering::SeqCst);
        outcome.map_err(|RecvError| Error::Lost { lcore: self.lcore })
    }
}
