//! The thread primitives used by code that the loom models compile: there they are replaced by
//! loom's.

pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError, TryLockError};
