//! The portal that is a file: the kernel copies descriptors, checks them, and submits them for this process.
//!
//! One write(2) takes many. It takes them one by one, and stops at the first that it cannot submit; if that is not the
//! very first, it returns a short count, and only a second call tells the reason. Hence the loop here, which ends with
//! the first call that takes nothing.
//!
//! | write(2) fails with | why | here |
//! |---|---|---|
//! | EAGAIN | a shared queue stayed full | [`Stopped::Busy`] |
//! | EINVAL, at a BATCH | a device of version 1; some kernels: any unsafe device | [`Stopped::Batch`], from now on |
//! | EPERM | another address space than that of who opened it | [`Stopped::Os`] |
//! | EFAULT, others | | [`Stopped::Os`] |
//!
//! A dedicated queue that is full loses what the kernel sends it as it loses what we send: [the portal counts](super).
//!
//! **End.** The driver waits for the device when the last copy of the file is closed. A child that was forked
//! meanwhile, and has not called exec, holds such a copy: then dropping this ends nothing, unlike the mapped portal's
//! drop.
//!
//! Source: Linux `drivers/dma/idxd/cdev.c` (`idxd_cdev_write`, `idxd_cdev_release`).
#![expect(
    unsafe_code,
    reason = "shows descriptors to the kernel as bytes, on behalf of who vouches for what they name"
)]

use core::slice;
use std::fs::File;
use std::io::{self, Write};

use super::{Portal, Stopped, Submitted, Terms, store_fence};
use crate::mover::dsa::capabilities::VERSION_1;
use crate::mover::dsa::{Descriptor, DeviceCapabilities, DsaOpcode, WorkQueueCapabilities};

/// A queue's file, written to.
#[derive(Debug)]
pub struct WritePortal {
    file: File,
    terms: Terms,
}

impl WritePortal {
    /// The portal of a queue of this configuration, by its device file, which was opened for writing.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Mode, Portal, Preset, WorkQueueCapabilities, WritePortal};
    /// let queue = WorkQueueCapabilities::new(Mode::Shared, 16);
    /// let portal = WritePortal::new(tempfile::tempfile()?, &Preset::V1Early.capabilities(), &queue);
    /// assert!(!portal.passes_batch());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn new(file: File, device: &DeviceCapabilities, queue: &WorkQueueCapabilities) -> Self {
        Self { file, terms: Terms::new(queue, device.version > VERSION_1) }
    }

    /// Writes these, which were admitted, until the kernel takes no more.
    fn write(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let mut accepted = 0;
        while accepted < descriptors.len() {
            let rest = &descriptors[accepted..];
            match (&self.file).write(bytes_of(rest)) {
                Ok(bytes) => {
                    accepted += bytes / Descriptor::BYTES;
                    if bytes == 0 || !bytes.is_multiple_of(Descriptor::BYTES) {
                        return Submitted { accepted, stopped: Some(Stopped::Os(libc::EIO)) };
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Submitted { accepted, stopped: Some(self.refusal(&rest[0], &error)) },
            }
        }
        Submitted { accepted, stopped: None }
    }

    fn refusal(&mut self, descriptor: &Descriptor, error: &io::Error) -> Stopped {
        match error.raw_os_error().unwrap_or(libc::EIO) {
            libc::EAGAIN => Stopped::Busy,
            libc::EINVAL if descriptor.opcode() == DsaOpcode::BATCH => {
                self.terms.passes_batch = false;
                Stopped::Batch
            }
            errno => Stopped::Os(errno),
        }
    }
}

fn bytes_of(descriptors: &[Descriptor]) -> &[u8] {
    // SAFETY: descriptors are 64 bytes each, without padding, all initialised, and they are borrowed for as long.
    unsafe { slice::from_raw_parts(descriptors.as_ptr().cast(), size_of_val(descriptors)) }
}

// SAFETY: the kernel hands the bytes to the device, which keeps the rules; closing the file says nothing.
unsafe impl Portal for WritePortal {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let (admitted, stopped) = self.terms.admit(descriptors);
        if admitted > 0 {
            store_fence();
        }
        let written = self.write(&descriptors[..admitted]);
        self.terms.accepted(written.accepted);
        Submitted { stopped: written.stopped.or(stopped), ..written }
    }

    fn completed(&mut self, count: usize) {
        self.terms.completed(count);
    }

    fn room(&self) -> usize {
        self.terms.room()
    }

    fn passes_batch(&self) -> bool {
        self.terms.passes_batch
    }

    /// A child may hold a copy of the file, so closing this one is no proof.
    fn retire(self: Box<Self>) -> bool {
        false
    }
}
