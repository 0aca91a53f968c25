//! Locking a mutex whatever has become of who had it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it. A panic under it ends with what it protects whole: we call no foreign code that could stop us half-way.
#[inline]
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
