//! The written portal, into what takes bytes as a queue's file does.
#![expect(unsafe_code, reason = "limits files, makes pipes small, and makes descriptors of other kinds")]

use std::fs::{File, OpenOptions};
use std::io::{Read, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;

use memring::dsa::{DsaOpcode, Mode, Portal, Preset, Stopped, Submitted, WritePortal};

use super::child::in_child;
use super::descriptors::{bytes_of, copies, nop, of_opcode, queue, submit};

pub(crate) fn portal(file: impl Into<OwnedFd>, preset: Preset, mode: Mode, size: u32) -> WritePortal {
    WritePortal::new(File::from(file.into()), &preset.capabilities(), &queue(mode, size))
}

fn shared(file: impl Into<OwnedFd>) -> WritePortal {
    portal(file, Preset::V1Production, Mode::Shared, 16)
}

fn stopped(accepted: usize, stopped: Stopped) -> Submitted {
    Submitted { accepted, stopped: Some(stopped) }
}

/// A pipe that holds 64 descriptors, and says so when it is full.
fn small_pipe() -> (File, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    // SAFETY: it takes numbers, and the descriptor is ours.
    assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) }, 4096);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
    (File::from(reader), writer)
}

/// A datagram is one call's bytes.
#[test]
fn many_descriptors_are_one_call() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut portal = shared(ours);
    let descriptors = copies(48);
    assert_eq!(submit(&mut portal, &descriptors), Submitted { accepted: 48, stopped: None });
    let mut bytes = [0; 1 << 16];
    let length = theirs.recv(&mut bytes).unwrap();
    assert_eq!(bytes[..length], bytes_of(&descriptors));
    assert_eq!(submit(&mut portal, &[]), Submitted { accepted: 0, stopped: None });
    theirs.set_nonblocking(true).unwrap();
    assert!(theirs.recv(&mut bytes).is_err(), "nothing is no call");
}

#[test]
fn a_short_count_is_followed_by_the_reason() {
    let (mut reader, writer) = small_pipe();
    let mut portal = shared(writer);
    let descriptors = copies(100);
    assert_eq!(submit(&mut portal, &descriptors), stopped(64, Stopped::Busy));
    assert_eq!(submit(&mut portal, &descriptors[64..]), stopped(0, Stopped::Busy));
    let mut bytes = [0; 4096];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..], bytes_of(&descriptors[..64]));
    assert_eq!(submit(&mut portal, &descriptors[64..]), Submitted { accepted: 36, stopped: None });
    reader.read_exact(&mut bytes[..36 * 64]).unwrap();
    assert_eq!(bytes[..36 * 64], bytes_of(&descriptors[64..]));
}

/// A file that may not grow beyond ten bytes more than two descriptors. No queue does that; what it is told apart from
/// is success.
#[test]
fn half_a_descriptor_is_an_error() {
    in_child(|| {
        let limit = libc::rlimit { rlim_cur: 2 * 64 + 10, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: it takes numbers; the signal is about files that grow, which then fails with an error.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        // SAFETY: the kernel reads the limit, which lives until it returns.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
        let mut portal = shared(tempfile::tempfile().unwrap());
        assert_eq!(submit(&mut portal, &copies(5)), stopped(2, Stopped::Os(libc::EIO)));
        assert_eq!(submit(&mut portal, &copies(1)), stopped(0, Stopped::Os(libc::EFBIG)));
    });
}

#[test]
fn errors_of_the_kernel_are_handed_on() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(submit(&mut shared(full), &copies(2)), stopped(0, Stopped::Os(libc::ENOSPC)));
    // Not here, where another test's child may hold a copy of the reader.
    in_child(|| {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert_eq!(submit(&mut shared(writer), &copies(2)), stopped(0, Stopped::Os(libc::EPIPE)));
    });
    let unreadable = File::open("/dev/null").unwrap();
    assert_eq!(submit(&mut shared(unreadable), &copies(2)), stopped(0, Stopped::Os(libc::EBADF)));
    let text = stopped(0, Stopped::Os(libc::EPERM)).to_string();
    assert!(text.starts_with("0 descriptors accepted, then: the kernel refused it: "), "{text}");
}

#[test]
fn a_batch_does_not_pass_on_a_device_of_the_first_version() {
    let file = tempfile::tempfile().unwrap();
    let mut portal = portal(file.try_clone().unwrap(), Preset::V1Early, Mode::Shared, 16);
    assert!(!portal.passes_batch());
    let descriptors = [nop(), of_opcode(DsaOpcode::BATCH), nop()];
    assert_eq!(submit(&mut portal, &descriptors), stopped(1, Stopped::Batch));
    assert_eq!(file.metadata().unwrap().len(), 64);
}

/// An epoll descriptor refuses each write with EINVAL, as some kernels refuse each batch.
#[test]
fn a_batch_that_the_kernel_refuses_is_not_tried_again() {
    // SAFETY: it takes a number.
    let epoll = unsafe { libc::epoll_create1(0) };
    assert!(epoll >= 0);
    // SAFETY: the kernel has just made it for us.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let mut portal = portal(epoll, Preset::V2Full, Mode::Shared, 16);
    assert!(portal.passes_batch());
    assert_eq!(submit(&mut portal, &[nop()]), stopped(0, Stopped::Os(libc::EINVAL)));
    assert!(portal.passes_batch());
    let batch = of_opcode(DsaOpcode::BATCH);
    assert_eq!(submit(&mut portal, &[batch, nop()]), stopped(0, Stopped::Batch));
    assert!(!portal.passes_batch());
    assert_eq!(submit(&mut portal, &[nop(), batch]), stopped(0, Stopped::Os(libc::EINVAL)));
}

#[test]
fn a_batch_passes_on_later_devices() {
    let file = tempfile::tempfile().unwrap();
    let mut portal = portal(file.try_clone().unwrap(), Preset::V2SierraForest, Mode::Shared, 16);
    let descriptors = [of_opcode(DsaOpcode::BATCH), nop()];
    assert_eq!(submit(&mut portal, &descriptors), Submitted { accepted: 2, stopped: None });
    let mut bytes = [0; 128];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes[..], bytes_of(&descriptors));
}

/// The kernel does not see either that a dedicated queue is full.
#[test]
fn a_dedicated_queue_is_never_written_more_than_it_holds() {
    let (mut reader, writer) = small_pipe();
    let mut portal = portal(writer, Preset::V1Production, Mode::Dedicated, 80);
    // What the kernel does not take costs no room.
    assert_eq!(submit(&mut portal, &copies(100)), stopped(64, Stopped::Busy));
    assert_eq!(portal.room(), 16);
    reader.read_exact(&mut [0; 4096]).unwrap();
    assert_eq!(submit(&mut portal, &copies(20)), stopped(16, Stopped::Busy));
    assert_eq!(portal.room(), 0);
    portal.completed(80);
    assert_eq!(portal.room(), 80);
}
