//! What threads share, in one place: the loom models in `tests/loom` compile the files that
//! use it with loom's kind instead, which tries every order of their steps.

pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
