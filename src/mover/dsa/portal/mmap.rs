//! The portal that is a page of the device, mapped into this process.
//!
//! A portal is 64 bytes, and a queue's page is 64 times the same portal: bits 11 to 6 of the address mean nothing.
//! Linux maps the *limited* one, which of a shared queue reaches only as many entries as its threshold says.
//!
//! | queue | instruction | when it is full |
//! |---|---|---|
//! | dedicated | MOVDIR64B | nothing is sent: [the portal counts](super) |
//! | shared | ENQCMD | it says so; asked again after a PAUSE, 32 times as the kernel does, then `Busy` |
//!
//! # Striding
//!
//! Several MOVDIR64B to the *same* address go one behind the other; to different ones they may be under way together.
//! [`with_striding`](MmapPortal::with_striding) makes each submission use the next 64 bytes, as SPDK and the kernel do.
//! It is off, since only the same address keeps descriptors in order, and it does nothing for ENQCMD, of which a CPU
//! has one under way at a time.
//!
//! # End
//!
//! The file is closed as soon as it is mapped, and the mapping is not inherited: so it is all that holds the device
//! open, and its end has the driver wait until the device is done with this process, whoever has forked meanwhile.
//!
//! Sources: Intel DSA Architecture Specification 341204-006US, 3; Linux `drivers/dma/idxd/cdev.c` (`idxd_cdev_mmap`),
//! `submit.c` (`enqcmds_retries`).
#![expect(unsafe_code, reason = "maps a page, and writes to it by instructions of its own")]

use core::hint::spin_loop;
use core::ptr::{self, NonNull};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::{Portal, Stopped, Submitted, Terms, instructions, store_fence};
use crate::mover::dsa::{Descriptor, DsaOpcode, Mode, WorkQueueCapabilities};

/// What is mapped, bytes. The kernel refuses more.
const PAGE: usize = 4096;
/// How often a shared queue is asked before it counts as full.
const ATTEMPTS: u32 = 32;

/// A queue's portal, mapped.
#[derive(Debug)]
pub struct MmapPortal {
    page: NonNull<u8>,
    mode: Mode,
    terms: Terms,
    /// Where in the page the next descriptor goes.
    offset: usize,
    /// How far on the one after it goes: 0, or with striding 64.
    stride: usize,
}

// SAFETY: it is the only one to use its page, and a page may be used by any thread.
unsafe impl Send for MmapPortal {}

impl MmapPortal {
    /// Maps the portal of a queue of this configuration, by its device file, which was opened for reading and writing.
    ///
    /// To submit, the CPU must have MOVDIR64B for a dedicated queue, or ENQCMD for a shared one: otherwise the process
    /// gets SIGILL. [`open`](super::open) looks.
    ///
    /// # Errors
    ///
    /// The kernel does not map it: EPERM on devices that it holds for unsafe. The file comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{MmapPortal, Mode, Portal, WorkQueueCapabilities};
    /// // A file of a page can be mapped, too.
    /// let file = tempfile::tempfile()?;
    /// file.set_len(4096)?;
    /// let queue = WorkQueueCapabilities::new(Mode::Dedicated, 16);
    /// let portal = MmapPortal::new(file, &queue).map_err(|(_, error)| error)?;
    /// assert_eq!(portal.room(), 16);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(file: File, queue: &WorkQueueCapabilities) -> Result<Self, (File, io::Error)> {
        let (prot, flags) = (libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address = unsafe { libc::mmap(ptr::null_mut(), PAGE, prot, flags, file.as_raw_fd(), 0) };
        let Some(page) = NonNull::new(address.cast()).filter(|_| address != libc::MAP_FAILED) else {
            return Err((file, io::Error::last_os_error()));
        };
        // The driver does this by itself; other files are to behave the same. It fails for no mapping.
        // SAFETY: it says what a fork does to our page, and changes no byte.
        let _ = unsafe { libc::madvise(address, PAGE, libc::MADV_DONTFORK) };
        Ok(Self { page, mode: queue.mode, terms: Terms::new(queue, true), offset: 0, stride: 0 })
    }

    /// Makes each submission use the next 64 bytes of the page, which gives up the order between descriptors.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memring::dsa::{MmapPortal, Mode, WorkQueueCapabilities};
    /// # let file = tempfile::tempfile()?;
    /// # file.set_len(4096)?;
    /// # let queue = WorkQueueCapabilities::new(Mode::Dedicated, 16);
    /// # let portal = MmapPortal::new(file, &queue).map_err(|(_, error)| error)?;
    /// let _portal = portal.with_striding();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn with_striding(mut self) -> Self {
        self.stride = size_of::<Descriptor>();
        self
    }

    /// Sends one. False: a shared queue is full.
    ///
    /// # Safety
    ///
    /// That of [`Portal::submit`]; this is the process that mapped the page, and has fenced.
    unsafe fn send(&mut self, descriptor: &Descriptor) -> bool {
        // SAFETY: the offset is a multiple of 64 within the page.
        let portal = unsafe { self.page.as_ptr().add(self.offset) };
        let accepted = match self.mode {
            Mode::Dedicated => {
                // SAFETY: 64 aligned bytes of our page.
                unsafe { instructions::movdir64b(portal, descriptor) };
                true
            }
            Mode::Shared => (0..ATTEMPTS).any(|attempt| {
                if attempt > 0 {
                    spin_loop();
                }
                // SAFETY: as above.
                unsafe { instructions::enqcmd(portal, descriptor) }
            }),
        };
        self.offset = (self.offset + self.stride) % PAGE;
        accepted
    }
}

// SAFETY: the bytes go to the device, which keeps the rules; the last mapping of a queue ends only when the driver has
// waited for the device.
unsafe impl Portal for MmapPortal {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let (admitted, stopped) = self.terms.admit(descriptors);
        if admitted > 0 {
            store_fence();
        }
        let refused = descriptors[..admitted].iter().enumerate().position(|(before, descriptor)| {
            if before > 0 && descriptor.opcode() == DsaOpcode::DRAIN {
                store_fence();
            }
            // SAFETY: the caller's contract; `admit` has seen that the process is ours, and the fence is above.
            !unsafe { self.send(descriptor) }
        });
        let accepted = refused.unwrap_or(admitted);
        self.terms.accepted(accepted);
        Submitted { accepted, stopped: refused.map(|_| Stopped::Busy).or(stopped) }
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

    /// In a child there is nothing to end: the parent has the device.
    fn retire(self: Box<Self>) -> bool {
        !self.terms.is_foreign()
    }
}

impl Drop for MmapPortal {
    fn drop(&mut self) {
        // A child has not got the mapping: something else may be there.
        if !self.terms.is_foreign() {
            // SAFETY: our mapping, which nobody uses from here on.
            unsafe { libc::munmap(self.page.as_ptr().cast(), PAGE) };
        }
    }
}
