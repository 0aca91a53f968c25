//! A device that does nothing but take down what it is given: what it does then, the test says.
#![expect(unsafe_code, reason = "implements the unsafe portal, and plays the device")]

use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memring::dsa::{
    Attachment, CompletionRecord, Descriptor, Dsa, Mode, Operation, Portal, Preset, RecordStatus, RecordView, Stopped,
    Submitted, WorkQueueCapabilities,
};
use memring::queue::{CompletionQueue, Drive, QueuePair, SubmissionQueue};
use memring::{MoverId, Sqe, Status};

/// What becomes of what it has when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retires {
    /// It was only slow, and does it.
    Late,
    /// Nothing.
    Never,
    /// Nobody knows.
    Unknown,
}

#[derive(Debug)]
struct State {
    taken: Vec<Descriptor>,
    room: usize,
    retires: Retires,
}

#[derive(Clone, Debug)]
pub(crate) struct Script(Arc<Mutex<State>>);

impl Script {
    pub(crate) fn new(room: usize, retires: Retires) -> Self {
        Self(Arc::new(Mutex::new(State { taken: Vec::new(), room, retires })))
    }

    pub(crate) fn attachment(&self) -> Attachment {
        let queue = WorkQueueCapabilities::new(Mode::Shared, 128);
        let allowance = Preset::V2Full.capabilities().through(&queue);
        Attachment { portal: Box::new(self.clone()), allowance, numa_node: None }
    }

    /// Descriptors that it was given, by themselves or in batches.
    pub(crate) fn taken(&self) -> Vec<Descriptor> {
        self.state().taken.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: nothing is touched but by `perform`, which the tests call for what was submitted and has not ended, and never
// after `retire` has said so.
unsafe impl Portal for Script {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let mut state = self.state();
        let accepted = descriptors.len().min(state.room);
        state.room -= accepted;
        state.taken.extend(&descriptors[..accepted]);
        Submitted { accepted, stopped: (accepted < descriptors.len()).then_some(Stopped::Busy) }
    }

    fn completed(&mut self, count: usize) {
        self.state().room += count;
    }

    fn room(&self) -> usize {
        self.state().room
    }

    fn passes_batch(&self) -> bool {
        true
    }

    fn retire(self: Box<Self>) -> bool {
        let state = self.state();
        if state.retires == Retires::Late {
            state.taken.iter().filter(|taken| record_of(taken).status().is_pending()).for_each(perform);
        }
        state.retires != Retires::Unknown
    }
}

/// The record of a descriptor that was submitted and is not reaped.
pub(crate) fn record_of(descriptor: &Descriptor) -> &'static CompletionRecord {
    let address = usize::try_from(descriptor.record_address()).unwrap();
    // SAFETY: the mover keeps it until it has reaped it, and the tests use it no longer.
    unsafe { &*with_exposed_provenance::<CompletionRecord>(address) }
}

/// The members of a batch.
pub(crate) fn members_of(descriptor: &Descriptor) -> Vec<Descriptor> {
    let Ok(Operation::Batch { list, count }) = descriptor.operation() else { return vec![*descriptor] };
    let list = with_exposed_provenance(usize::try_from(list).unwrap());
    // SAFETY: the mover keeps it until the batch was reaped, and the tests use it no longer.
    unsafe { std::slice::from_raw_parts(list, count as usize) }.to_vec()
}

/// Says that a descriptor has ended like this.
pub(crate) fn ends_as(descriptor: &Descriptor, status: RecordStatus) {
    record_of(descriptor).write(&RecordView::new(status));
}

/// Does what a descriptor says.
pub(crate) fn perform(descriptor: &Descriptor) {
    let place = |address: u64| usize::try_from(address).unwrap();
    match descriptor.operation().unwrap() {
        Operation::Batch { .. } => members_of(descriptor).iter().for_each(perform),
        Operation::Memmove { src, dst, len } => {
            let (src, dst) = (with_exposed_provenance::<u8>(place(src)), with_exposed_provenance_mut(place(dst)));
            // SAFETY: who pushed the entry vouched for it.
            unsafe { src.copy_to(dst, len as usize) };
        }
        Operation::Fill { pattern, dst, len, .. } => {
            let [byte, ..] = pattern.to_le_bytes();
            // SAFETY: as above.
            unsafe { with_exposed_provenance_mut::<u8>(place(dst)).write_bytes(byte, len as usize) };
        }
        _ => {}
    }
    ends_as(descriptor, RecordStatus::SUCCESS);
}

/// A queue pair that the test drives, with such devices.
pub(crate) struct Pair {
    pub(crate) sq: SubmissionQueue,
    pub(crate) cq: CompletionQueue,
    mover: MoverId,
}

impl Pair {
    pub(crate) fn new(dsa: &Dsa) -> Self {
        let dsa = dsa.clone();
        let builder = QueuePair::builder().entries(4096).workers(0);
        let pair = builder.mover("dsa", Drive::Caller, move || dsa.mover()).build().unwrap();
        let mover = pair.mover("dsa").unwrap();
        let (sq, cq) = pair.split();
        Self { sq, cq, mover }
    }

    /// Submits these, whose memory the test keeps, numbered from zero.
    pub(crate) fn submit(&mut self, sqes: &[Sqe]) {
        let mover = self.mover;
        let sqes: Vec<Sqe> = sqes.iter().zip(0..).map(|(sqe, number)| sqe.on(mover).user_data(number)).collect();
        // SAFETY: the tests keep the memory until all has ended, or for ever.
        unsafe { self.sq.push_batch(&sqes) }.unwrap();
        self.sq.submit();
    }

    /// Polls once.
    pub(crate) fn poll(&mut self) -> Vec<(u64, Status)> {
        self.cq.drain().map(|cqe| (cqe.user_data(), cqe.status())).collect()
    }

    /// Polls until so many have ended.
    pub(crate) fn poll_until(&mut self, ends: usize) -> Vec<(u64, Status)> {
        let mut ended = Vec::new();
        while ended.len() < ends {
            ended.extend(self.poll());
        }
        ended
    }
}
