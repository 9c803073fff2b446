//! The synchronization primitives of this crate, in one place. The loom models in `tests/loom`
//! compile the files that use it with loom's versions instead, and explore every order of their
//! steps.

pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
