//! A queue pair with a DSA mover, which the test drives.
#![expect(unsafe_code, reason = "pushes entries whose memory the tests keep")]

use memring::dsa::{Attachment, Dsa, OnFault};
use memring::queue::{Builder, CompletionQueue, Drive, MoverStats, QueuePair, SubmissionQueue};
use memring::{Cqe, MoverId, Sqe, Status};

use super::device::{Device, Plan};

/// Entries of the queue.
pub(crate) const ENTRIES: usize = 4096;

pub(crate) struct Rig {
    pub(crate) sq: SubmissionQueue,
    pub(crate) cq: CompletionQueue,
    pub(crate) dsa: Dsa,
    pub(crate) mover: MoverId,
    pub(crate) devices: Vec<Device>,
}

impl Rig {
    /// One device, and defaults for all else.
    pub(crate) fn of(plan: &Plan) -> Self {
        Self::with(std::slice::from_ref(plan), |dsa| dsa)
    }

    pub(crate) fn on_fault(plan: &Plan, on_fault: OnFault) -> Self {
        Self::with(std::slice::from_ref(plan), |dsa| dsa.on_fault(on_fault))
    }

    pub(crate) fn with(plans: &[Plan], configure: impl FnOnce(Dsa) -> Dsa) -> Self {
        Self::built(plans, configure, |builder| builder)
    }

    /// With a queue whose builder was changed.
    pub(crate) fn built(
        plans: &[Plan],
        configure: impl FnOnce(Dsa) -> Dsa,
        build: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let (devices, attached): (Vec<Device>, Vec<Attachment>) = plans.iter().map(Device::new).unzip();
        let dsa = configure(Dsa::new(attached).unwrap());
        let made = dsa.clone();
        let builder = build(QueuePair::builder().entries(ENTRIES).workers(0));
        let pair = builder.mover("dsa", Drive::Caller, move || made.mover()).build().unwrap();
        let mover = pair.mover("dsa").unwrap();
        let (sq, cq) = pair.split();
        Self { sq, cq, dsa, mover, devices }
    }

    pub(crate) fn device(&self) -> &Device {
        &self.devices[0]
    }

    /// Submits these to the DSA mover. Their user data is where they stand.
    ///
    /// The memory is the caller's to keep until all have ended.
    pub(crate) fn submit(&mut self, sqes: &[Sqe]) {
        let mover = self.mover;
        let sqes: Vec<Sqe> = sqes.iter().zip(0..).map(|(sqe, number)| sqe.on(mover).user_data(number)).collect();
        // SAFETY: the tests keep the memory beyond the rig, and do not touch it before the end.
        unsafe { self.sq.push_batch(&sqes) }.unwrap();
        assert_eq!(self.sq.submit(), sqes.len());
    }

    /// Polls the movers once, and tells what has ended.
    pub(crate) fn poll(&mut self) -> Vec<Cqe> {
        self.cq.drain().collect()
    }

    /// Polls until so many have ended; their statuses and values, by user data.
    pub(crate) fn finish(&mut self, count: usize) -> Vec<(Status, u32)> {
        let mut ends = vec![None; count];
        let mut left = count;
        while left > 0 {
            for cqe in self.poll() {
                let place = &mut ends[usize::try_from(cqe.user_data()).unwrap()];
                assert!(place.replace((cqe.status(), cqe.value())).is_none(), "ended twice: {cqe:?}");
                left -= 1;
            }
        }
        assert_eq!((self.sq.in_flight(), self.poll().len()), (0, 0), "an end too many");
        ends.into_iter().flatten().collect()
    }

    /// Submits, and waits for all of them.
    pub(crate) fn run(&mut self, sqes: &[Sqe]) -> Vec<(Status, u32)> {
        self.submit(sqes);
        self.finish(sqes.len())
    }

    pub(crate) fn stats(&self) -> MoverStats {
        self.cq.stats().mover(self.mover)
    }
}

pub(crate) const DONE: (Status, u32) = (Status::SUCCESS, 0);

/// Copies of `len` bytes from one end of a buffer to the other, side by side.
pub(crate) fn copies(dst: &mut [u8], src: &[u8], len: usize) -> Vec<Sqe> {
    assert_eq!(dst.len(), src.len());
    let (to, from) = (dst.as_mut_ptr(), src.as_ptr());
    (0..dst.len()).step_by(len).map(|at| Sqe::memcpy(to.wrapping_add(at), from.wrapping_add(at), len)).collect()
}

/// Bytes that repeat only after a long while.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut random = super::random::Random::new(7);
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_ne_bytes()).take(len).collect()
}
