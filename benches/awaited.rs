//! What awaiting costs: 4096 copies of 4 KiB, in the cache, from one task on a current-thread runtime.
//!
//! | contestant | what a round does |
//! |---|---|
//! | queue pair | `push_batch`, `submit`, and `drain` until all are back: what all are compared to |
//! | queue pair, helping | the same, but it `wait`s for all, which copies too: two threads |
//! | scope | `Ring::scope`, a `memcpy` a page |
//! | batch | `Ring::batch`, one future of 4096 copies of owned buffers |
//! | awaited in order | 4096 operations, each begun at once, then awaited one after the other |
//! | awaited in order, polls help | the same on a ring whose polls help the worker |
//! | join_all | as awaited in order, by `futures_util::future::join_all`, whose own price is in it |
//! | spawn_blocking | tokio: 4096 closures that copy on at most one thread, awaited one after the other |
//! | spawn_blocking, tokio's default | the same on as many threads as tokio takes if nobody says: up to 512 |
//!
//! The queue pair and the ring have one worker, and a caller that blocks helps it, as in a scope. One that awaits does
//! not: its thread is the runtime's, and only drains. Buffers are owned pages of two arenas, as an engine's page pool
//! has them, one for the sources and one for the destinations. They go round: what a round gives back is what the next
//! one takes.

mod contest;

use std::future::IntoFuture;
use std::hint::{black_box, spin_loop};

use contest::{Contestant, Entry, Group};
use futures_util::future::join_all;
use memring::queue::{CompletionQueue, QueuePair, SubmissionQueue};
use memring::{Operation, Ring, Sqe, WORKERS, future::Memcpy};
use tokio::runtime::{Builder, Runtime};

const PAGE: usize = 4096;
const PAGES: usize = 4096;

type Page = &'static mut [u8];
type Source = &'static [u8];
type Copies = Vec<(Page, Source)>;

fn copies() -> Copies {
    let dst = vec![0xee; PAGES * PAGE].leak();
    // Odd cache lines more, so that no source lies at the low bits of its destination: a store there holds up loads.
    let src: Vec<u8> = (0..=250).cycle().take(PAGES * PAGE + 33 * 64).collect();
    dst.chunks_exact_mut(PAGE).zip(src.leak()[33 * 64..].chunks_exact(PAGE)).collect()
}

fn check(copies: &Copies) {
    assert!(copies.iter().all(|(dst, src)| dst == src), "a round did not copy");
}

fn ring() -> Ring {
    Ring::builder().entries(PAGES).workers(1).build().expect("a ring")
}

fn helped() -> Ring {
    Ring::builder().entries(PAGES).workers(1).polls_help().build().expect("a ring")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime")
}

fn default_runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

struct Raw {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    copies: Copies,
    helps: bool,
}

impl Contestant for Raw {
    fn round(&mut self) {
        let entry = |(dst, src): &mut (Page, Source)| Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), black_box(PAGE));
        let batch: Vec<Sqe> = self.copies.iter_mut().map(entry).collect();
        raw::push(&mut self.sq, &batch);
        self.sq.submit();
        if self.helps {
            self.cq.wait(PAGES, None).expect("no fork");
        }
        let mut back = 0;
        while back < PAGES {
            back += self.cq.drain().inspect(|cqe| assert!(cqe.status().is_success())).count();
            spin_loop();
        }
    }

    fn check(&mut self) {
        check(&self.copies);
    }
}

mod raw {
    #![expect(unsafe_code, reason = "pushes entries")]

    use super::{Sqe, SubmissionQueue};

    pub(super) fn push(sq: &mut SubmissionQueue, batch: &[Sqe]) {
        // SAFETY: the pages outlive the queue, and are not touched until the round has reaped all.
        unsafe { sq.push_batch(batch) }.expect("room");
    }
}

struct Scope {
    ring: Ring,
    copies: Copies,
}

impl Contestant for Scope {
    fn round(&mut self) {
        let done = self.ring.scope(|s| self.copies.iter_mut().for_each(|(dst, src)| s.memcpy(dst, src)));
        done.expect("copied");
    }

    fn check(&mut self) {
        check(&self.copies);
    }
}

/// Owned buffers, in a runtime; how a round is awaited is the type's.
struct Awaiting<F> {
    ring: Ring,
    runtime: Runtime,
    copies: Copies,
    round: F,
}

impl<F: AsyncFnMut(&Ring, Copies) -> Copies> Contestant for Awaiting<F> {
    fn round(&mut self) {
        let copies = std::mem::take(&mut self.copies);
        self.copies = self.runtime.block_on((self.round)(&self.ring, copies));
    }

    fn check(&mut self) {
        check(&self.copies);
    }
}

fn awaiting<F: AsyncFnMut(&Ring, Copies) -> Copies>(round: F) -> Awaiting<F> {
    Awaiting { ring: ring(), runtime: runtime(), copies: copies(), round }
}

async fn batch(ring: &Ring, copies: Copies) -> Copies {
    let batch = copies.into_iter().fold(ring.batch(), |batch, (dst, src)| batch.memcpy(dst, src));
    let done = batch.into_future().await.expect("copied");
    done.into_iter().map(|(dst, src)| (dst, src.expect("of a copy"))).collect()
}

async fn in_order(ring: &Ring, copies: Copies) -> Copies {
    let begin = |(dst, src)| ring.memcpy(dst, src).on(WORKERS).try_start().expect("room");
    let operations: Vec<Operation<Memcpy<Page, Source>>> = copies.into_iter().map(begin).collect();
    let mut done = Vec::with_capacity(PAGES);
    for operation in operations {
        done.push(operation.await.expect("copied"));
    }
    done
}

async fn joined(ring: &Ring, copies: Copies) -> Copies {
    let operations = copies.into_iter().map(|(dst, src)| ring.memcpy(dst, src));
    join_all(operations).await.into_iter().map(|done| done.expect("copied")).collect()
}

async fn blocking(_: &Ring, copies: Copies) -> Copies {
    let copy = |(dst, src): (Page, Source)| {
        tokio::task::spawn_blocking(move || {
            dst.copy_from_slice(black_box(src));
            (dst, src)
        })
    };
    let tasks: Vec<_> = copies.into_iter().map(copy).collect();
    let mut done = Vec::with_capacity(PAGES);
    for task in tasks {
        done.push(task.await.expect("copied"));
    }
    done
}

fn main() {
    let raw = |helps| {
        let (sq, cq) = QueuePair::builder().entries(PAGES).workers(1).build().expect("a queue pair").split();
        Raw { sq, cq, copies: copies(), helps }
    };
    let entries = vec![
        Entry::new("queue pair", move || raw(false)),
        Entry::new("queue pair, helping", move || raw(true)),
        Entry::new("scope", || Scope { ring: ring(), copies: copies() }),
        Entry::new("batch", || awaiting(batch)),
        Entry::new("awaited in order", || awaiting(in_order)),
        Entry::new("awaited in order, polls help", || Awaiting { ring: helped(), ..awaiting(in_order) }),
        Entry::new("join_all", || awaiting(joined)),
        Entry::new("spawn_blocking", || awaiting(blocking)),
        Entry::new("spawn_blocking, tokio's default", || Awaiting { runtime: default_runtime(), ..awaiting(blocking) }),
    ];
    let name = format!("{PAGES} copies of 4 KiB, awaited");
    contest::main("awaited", &[Group { name, operations: PAGES as u64, entries }]);
}
