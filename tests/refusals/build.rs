//! Refused builds: options out of their range, and what the kernel refuses.
#![expect(unsafe_code, reason = "pushes nops, and lowers resource limits")]

use std::error::Error;
use std::io;
use std::sync::Arc;

use memring::mover::{Capabilities, Completions, DataMover, Lane, Progress};
use memring::queue::{BuildError, Builder, Drive, PushError, QueuePair};
use memring::{Opcode, Sqe};

use super::subprocess::{again, role, words};
use super::watchdog::must_end;
use super::{Queue, agreeing};

#[test]
fn build_options_out_of_range() {
    let build = |builder: Builder| builder.build().map(drop).expect_err("it is out of range");
    let mover = |builder: Builder, name, drive| builder.mover(name, drive, || agreeing(Capabilities::new(&[])));
    let new = || QueuePair::builder().entries(1).workers(0);

    let error = build(new().entries(0));
    assert!(matches!(error, BuildError::Entries(0)) && error.to_string().contains("not 0"), "{error}");
    let error = build(new().entries(65537));
    assert!(matches!(error, BuildError::Entries(65537)) && error.to_string().contains("65537"), "{error}");
    let error = build(new().entries(usize::MAX));
    assert!(matches!(error, BuildError::Entries(usize::MAX)), "{error}");
    let error = build(new().workers(65));
    assert!(matches!(error, BuildError::Workers(65)) && error.to_string().contains("65"), "{error}");

    for threads in [0, 65, usize::MAX] {
        let error = build(mover(new(), "idle", Drive::Threads(threads)));
        assert!(matches!(&error, BuildError::Threads(name, found) if name == "idle" && *found == threads), "{error}");
        let text = error.to_string();
        assert!(text.contains("\"idle\"") && text.contains(&threads.to_string()), "{text}");
    }
    let twice = mover(mover(new(), "twin", Drive::Caller), "twin", Drive::Threads(1));
    let reserved = ["workers", "inline"].map(|name| mover(new(), name, Drive::Caller));
    for (builder, expected) in [twice].into_iter().chain(reserved).zip(["twin", "workers", "inline"]) {
        let error = build(builder);
        assert!(matches!(&error, BuildError::DuplicateMover(name) if name == expected), "{error}");
        assert!(error.to_string().contains(expected) && error.source().is_none(), "{error}");
    }
}

#[test]
fn a_fault_guard_is_there_or_refused() {
    let built = QueuePair::builder().entries(1).workers(0).fault_guard().build();
    match cfg!(target_arch = "x86_64") {
        true => drop(built.expect("there is one")),
        false => assert!(matches!(built, Err(BuildError::FaultGuard))),
    }
}

#[test]
fn the_largest_options_are_in_range() {
    must_end(|| {
        let mut builder = QueuePair::builder().entries(1).workers(64);
        for index in 0..240 {
            builder =
                builder.mover(&format!("mover {index}"), Drive::Caller, || agreeing(Capabilities::new(&[Opcode::Nop])));
        }
        let pair = builder.build().expect("ids 16 to 255 are the user's");
        let last = pair.mover("mover 239").expect("it was added");
        assert_eq!(last.to_u8(), 255);
        let (mut sq, mut cq) = pair.split();
        // SAFETY: a nop touches no memory.
        unsafe { sq.push(Sqe::nop().on(last)) }.expect("the last mover is there");
        sq.submit();
        assert_eq!(cq.wait(1, None), Ok(1));
        assert!(cq.drain().all(|cqe| cqe.mover() == last));

        let (mut sq, mut cq) =
            QueuePair::builder().entries(65536).workers(0).build().expect("the most entries").split();
        // SAFETY: nops touch no memory.
        unsafe { sq.push_batch(&vec![Sqe::nop(); 65536]) }.expect("the longest batch");
        // SAFETY: as above.
        assert!(matches!(unsafe { sq.push(Sqe::nop()) }, Err(PushError::Full(_))));
        assert_eq!(sq.submit(), 65536);
        assert_eq!(cq.wait(65536, None), Ok(65536));
    });
}

#[test]
fn one_mover_too_many() {
    let mut builder = QueuePair::builder().entries(1).workers(0);
    for index in 0..242 {
        builder = builder.mover(&format!("mover {index}"), Drive::Caller, || agreeing(Capabilities::new(&[])));
    }
    let error = builder.build().map(drop).expect_err("ids are one byte");
    assert!(matches!(&error, BuildError::TooManyMovers(name) if name == "mover 240"), "{error}");
    assert!(error.to_string().contains("mover 240"));
}

/// Sets the soft limit of a resource, and returns what it was.
fn limit(resource: libc::__rlimit_resource_t, soft: libc::rlim_t) -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
    let before = limit.rlim_cur;
    limit.rlim_cur = soft;
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0, "{}", io::Error::last_os_error());
    before
}

/// The error of a build that the kernel refused, checked for what every such error must say.
fn refused_by_the_kernel(builder: Builder, errno: i32) {
    let error = builder.build().map(drop).expect_err("the kernel refuses it");
    let BuildError::Os(cause) = &error else { panic!("not the kernel's: {error}") };
    assert_eq!(cause.raw_os_error(), Some(errno), "{cause}");
    assert!(error.source().is_some() && error.to_string().contains(&cause.to_string()), "{error}");
}

#[test]
fn an_eventfd_that_the_kernel_refuses() {
    if role().is_none() {
        let output = again("build::an_eventfd_that_the_kernel_refuses", "limited", &[]);
        assert!(output.status.success(), "{}", words(&output));
        return;
    }
    let before = limit(libc::RLIMIT_NOFILE, 3);
    refused_by_the_kernel(QueuePair::builder().workers(4), libc::EMFILE);
    limit(libc::RLIMIT_NOFILE, before);
    Queue::of(QueuePair::builder().workers(4)).has_all_credits();
}

#[test]
fn a_thread_that_the_kernel_refuses() {
    const STACK: u64 = 64 << 20;
    if role().is_none() {
        // Large stacks and one heap make the address space run out at the fourth thread, and at nothing else.
        let settings = [("RUST_MIN_STACK", STACK.to_string()), ("MALLOC_ARENA_MAX", "1".to_owned())];
        let output = again("build::a_thread_that_the_kernel_refuses", "limited", &settings);
        assert!(output.status.success(), "{}", words(&output));
        return;
    }
    struct Counted(#[expect(dead_code, reason = "counts the instances by its references")] Arc<()>);
    // SAFETY: claims nothing.
    unsafe impl DataMover for Counted {
        fn capabilities(&self) -> Capabilities {
            Capabilities::new(&[])
        }
        fn poll(&mut self, _: &mut Lane<'_>, _: &mut Completions<'_>) -> Progress {
            Progress::Idle
        }
    }

    let instances = Arc::new(());
    let counted = Arc::clone(&instances);
    let builder =
        QueuePair::builder().workers(0).mover("counted", Drive::Threads(64), move || Counted(Arc::clone(&counted)));
    let pages = std::fs::read_to_string("/proc/self/statm").expect("procfs is mounted");
    let pages: u64 = pages.split(' ').next().and_then(|size| size.parse().ok()).expect("statm begins with the size");
    let before = limit(libc::RLIMIT_AS, pages * 4096 + 3 * STACK + STACK / 2);
    refused_by_the_kernel(builder, libc::EAGAIN);
    limit(libc::RLIMIT_AS, before);
    assert_eq!(Arc::strong_count(&instances), 1, "the threads that did start have ended");
    Queue::of(QueuePair::builder().workers(4)).has_all_credits();
}
