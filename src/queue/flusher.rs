//! The thread of durable flushes: it begins when there is something that could be flushed, with the first region.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::builder::spawn;
use super::core::Core;
use super::drive::Driver;
use crate::memory::region::RegisterRefusal;
use crate::mover::uring_refusal;
use crate::os::lock;

/// How durable flushes reach the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushMethod {
    /// By io_uring: fsyncs of several files at a time.
    IoUring,
    /// A thread calls fdatasync.
    Fdatasync,
}

impl FlushMethod {
    /// The one that this process uses, unless a builder [says otherwise](super::Builder::io_uring).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::FlushMethod;
    /// println!("durable flushes go by {:?}", FlushMethod::in_use());
    /// ```
    #[must_use]
    pub fn in_use() -> Self {
        if Self::refusal().is_none() { Self::IoUring } else { Self::Fdatasync }
    }

    /// Why the kernel refuses this process an io_uring, if it does: EPERM (the sysctl `kernel.io_uring_disabled`, or
    /// seccomp), ENOSYS (a kernel without it, or seccomp), or a limit, which may be another one the next time.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::queue::FlushMethod;
    /// if let Some(error) = FlushMethod::refusal() {
    ///     println!("no io_uring: {error}");
    /// }
    /// ```
    #[must_use]
    pub fn refusal() -> Option<std::io::Error> {
        uring_refusal().map(std::io::Error::from_raw_os_error)
    }
}

#[derive(Debug)]
pub(crate) struct Flusher {
    thread: Mutex<Thread>,
    spin: Duration,
}

#[derive(Debug)]
enum Thread {
    /// Somebody else drives the flushes.
    None,
    Waits(Box<Driver>),
    Runs(JoinHandle<()>),
    /// It has ended, or will never begin.
    Gone,
}

impl Flusher {
    pub(super) fn new(driver: Option<Driver>, spin: Duration) -> Self {
        let thread = driver.map_or(Thread::None, |driver| Thread::Waits(Box::new(driver)));
        Self { thread: Mutex::new(thread), spin }
    }

    /// Has the thread begin, if it has not.
    pub(super) fn begin(&self, core: &Arc<Core>) -> Result<(), RegisterRefusal> {
        let mut thread = lock(&self.thread);
        match std::mem::replace(&mut *thread, Thread::Gone) {
            Thread::Waits(driver) => {
                // Not given away before there is a thread to take it.
                let driver = Arc::new(Mutex::new(Some(driver)));
                let taken = Arc::clone(&driver);
                let take = move || lock(&taken).take().map(|driver| *driver);
                match spawn(take, 0, "memring-uring-0".to_owned(), core, self.spin) {
                    Ok(running) => *thread = Thread::Runs(running),
                    Err(error) => {
                        *thread = lock(&driver).take().map_or(Thread::Gone, Thread::Waits);
                        return Err(error.into());
                    }
                }
                Ok(())
            }
            Thread::Gone => Err(RegisterRefusal::Closed),
            other => {
                *thread = other;
                Ok(())
            }
        }
    }

    /// The thread, if it has begun, to be joined: none begins any more.
    pub(super) fn end(&self) -> Option<JoinHandle<()>> {
        match std::mem::replace(&mut *lock(&self.thread), Thread::Gone) {
            Thread::Runs(thread) => Some(thread),
            Thread::None | Thread::Waits(_) | Thread::Gone => None,
        }
    }
}
