//! A data mover of your own: four verbs, and the futures of `memring::vdm` run on it.
//!
//! This one has a thread of its own that moves the bytes, and a few places. An operation takes a place when it is
//! created (`op_new`), is handed over when it is first polled (`op_start`), looked at with each poll (`op_check`), and
//! gives its place back at its end (`op_delete`). A device would stand where the thread stands.
//!
//! ```console
//! $ cargo run --release --example vdm_mover
//! ```
#![expect(unsafe_code, reason = "a mover touches raw memory, as its contract says")]
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::error::Error;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, JoinHandle};

use memring::vdm::{Chain, Mover, NotStarted, Notifier, Operation, OperationResult, OperationType, State, Vdm};
use memring::{OpFlags, Ring};

/// The mover: its places, and the way to its thread.
pub(crate) struct Courier {
    places: Arc<Mutex<usize>>,
    /// None when the mover is being dropped: the thread ends then.
    parcels: Option<SyncSender<Parcel>>,
    thread: Option<JoinHandle<()>>,
}

/// What an operation holds.
pub(crate) struct Ticket {
    progress: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    is_done: bool,
    waker: Option<Waker>,
}

/// What the thread is handed: addresses, as numbers, since it is the operation's maker who vouches for them.
struct Parcel {
    operation_type: OperationType,
    dst: usize,
    src: usize,
    value: u8,
    len: usize,
    progress: Arc<Mutex<Progress>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Courier {
    /// A mover with room for so many operations at once, at least one.
    pub(crate) fn new(places: usize) -> Self {
        // The way holds fewer than there are places, so some operations cannot start at once, and are tried again.
        let (parcels, way) = sync_channel(places.div_ceil(2));
        let thread = thread::spawn(move || deliver(&way));
        Self { places: Arc::new(Mutex::new(places)), parcels: Some(parcels), thread: Some(thread) }
    }
}

/// The life of the thread.
fn deliver(way: &Receiver<Parcel>) {
    for Parcel { operation_type, dst, src, value, len, progress } in way {
        let dst = std::ptr::with_exposed_provenance_mut::<u8>(dst);
        let src = std::ptr::with_exposed_provenance::<u8>(src);
        match operation_type {
            // SAFETY: the operation was started and is not complete: whoever made it vouches for both regions.
            OperationType::Memcpy => unsafe { dst.copy_from_nonoverlapping(src, len) },
            // SAFETY: as above.
            OperationType::Memmove => unsafe { dst.copy_from(src, len) },
            // SAFETY: as above.
            OperationType::Memset => unsafe { dst.write_bytes(value, len) },
            OperationType::Flush => {}
        }
        // First it is done, and then its waker is woken: whoever is woken finds it done.
        let waker = {
            let mut progress = lock(&progress);
            progress.is_done = true;
            progress.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

// SAFETY: the thread touches the memory of a parcel, as the operation says, between `op_start`, which sends it, and the
// moment it is done, which is what `op_check` looks at. What is not sent is not touched.
unsafe impl Mover for Courier {
    type Data = Ticket;

    fn op_new(&self, _: OperationType) -> Option<Ticket> {
        let mut places = lock(&self.places);
        *places = places.checked_sub(1)?;
        Some(Ticket { progress: Arc::default() })
    }

    unsafe fn op_start(&self, ticket: &mut Ticket, op: &Operation, _: &mut Notifier<'_>) -> Result<(), NotStarted> {
        if op.operation_type() == OperationType::Flush {
            // It has no instruction for that. Started, done, and told by `op_delete`.
            lock(&ticket.progress).is_done = true;
            return Ok(());
        }
        let parcel = Parcel {
            operation_type: op.operation_type(),
            dst: op.dst().expose_provenance(),
            src: op.src().expose_provenance(),
            value: op.value(),
            len: op.len(),
            progress: Arc::clone(&ticket.progress),
        };
        let way = self.parcels.as_ref().ok_or(NotStarted)?;
        way.try_send(parcel).map_err(|_| NotStarted)
    }

    fn op_check(&self, ticket: &mut Ticket, _: &Operation, notifier: &mut Notifier<'_>) -> State {
        let mut progress = lock(&ticket.progress);
        if progress.is_done {
            return State::Complete;
        }
        progress.waker = notifier.use_waker().cloned();
        State::Running
    }

    fn op_delete(&self, _: Ticket, op: &Operation) -> OperationResult {
        *lock(&self.places) += 1;
        match op.operation_type() {
            OperationType::Flush => OperationResult::JobCorrupted,
            _ => OperationResult::Success,
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.parcels = None;
        if let Some(thread) = self.thread.take() {
            // It is dropped where its last operation is, which may be in a waker, on that very thread.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Sends a page around by all four operations, and returns it.
pub(crate) fn run(courier: Courier) -> Result<Vec<u8>, Box<dyn Error>> {
    const PAGE: usize = 4096;
    let (mut page, mut copy) = (vec![0_u8; PAGE], vec![0_u8; PAGE]);
    let (page_at, copy_at) = (page.as_mut_ptr(), copy.as_mut_ptr());
    // After the buffers: its drop waits for what is under way.
    let vdm = Vdm::new(courier);
    let flags = OpFlags::NONE;
    // SAFETY: both vectors outlive `vdm`; each operation begins when the one before it is complete, and nobody else
    // uses them until the chain is.
    let first = unsafe { vdm.memset(page_at, 7, PAGE, flags) };
    let chain = Chain::new(first)
        // SAFETY: as above.
        .then_lazy(|_| unsafe { vdm.memset(page_at, 9, 1, flags) })
        // SAFETY: as above.
        .then_lazy(|_| unsafe { vdm.memcpy(copy_at, page_at, PAGE, flags) })
        // SAFETY: as above.
        .then_lazy(|_| unsafe { vdm.memmove(copy_at.wrapping_add(1), copy_at, PAGE - 1, flags) })
        .map(|moved| moved.result);
    // Any executor does; a ring has one at hand.
    let result = Ring::builder().workers(0).build()?.block_on(chain)?;
    if result != OperationResult::Success {
        return Err(format!("the last operation: {result:?}").into());
    }
    drop(vdm);
    Ok(copy)
}

fn main() -> Result<(), Box<dyn Error>> {
    let copy = run(Courier::new(4))?;
    println!("moved by the courier: {:?} ...", &copy[..4]);
    Ok(())
}
