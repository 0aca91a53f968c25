//! The DSA mover: what it costs itself, and what a device in software makes of it.
//!
//! **Null device.** Every descriptor succeeds, and no memory is touched but for records and the lists of batches: what
//! is timed is encoding, packing, submitting and reaping, with the null device's share (it reads each descriptor and
//! writes each record) and the queue pair's own, all on one thread. The latter is what no-ops of the CPU mover cost:
//! the difference to that is the DSA mover's. A mover of one's own that keeps its tokens until the next poll, as a
//! device's must, is there to compare.
//!
//! | contestant | a round |
//! |---|---|
//! | DSA, null device | copies of 64 bytes: `push_batch`, `submit`, and `drain` until all are back |
//! | a mover that keeps | no-ops, likewise |
//! | CPU mover | the copies, driven by the caller |
//! | CPU mover, no-ops | what the queue pair costs alone |
//!
//! **Software.** [`Dsa::software`] against the CPU mover, driven by the caller, and against a loop of memcpy. What it
//! copies is checked.

mod contest;

use contest::{Contestant, Entry, Group};
use memring::dsa::model::{ModelPortal, Settings};
use memring::dsa::{Dsa, Mode, Preset, WorkQueueCapabilities};
use memring::mover::{Capabilities, Claimed, Completions, DataMover, Kept, Lane, Progress};
use memring::queue::{CompletionQueue, Drive, QueuePair, SubmissionQueue};
use memring::{MoverId, Opcode, Sqe, Status, WORKERS};

const SMALL: usize = 64;
const ENTRIES: usize = 1024;

fn main() {
    let null = [1, 32, 1024].map(|batch| Group {
        name: if batch == 1 {
            "null device, one at a time".to_owned()
        } else {
            format!("null device, {batch} at a time")
        },
        operations: batch as u64,
        entries: vec![
            Entry::new("DSA, null device", move || Copies::new(&Kind::Null, batch, SMALL)),
            Entry::new("a mover that keeps", move || Copies::new(&Kind::Keeping, batch, SMALL)),
            Entry::new("CPU mover", move || Copies::new(&Kind::Cpu, batch, SMALL)),
            Entry::new("CPU mover, no-ops", move || Copies::new(&Kind::CpuNops, batch, SMALL)),
        ],
    });
    let software = [(32, 4 << 10), (32, 64 << 10)].map(|(batch, len)| Group {
        name: format!("software, {batch} copies of {} KiB", len >> 10),
        operations: batch as u64,
        entries: vec![
            Entry::new("DSA in software", move || Copies::new(&Kind::Software, batch, len)),
            Entry::new("CPU mover", move || Copies::new(&Kind::Cpu, batch, len)),
            Entry::new("memcpy", move || Plain::new(batch, len)),
        ],
    });
    let groups: Vec<Group> = null.into_iter().chain(software).collect();
    contest::main("dsa", &groups);
}

/// Who does the work.
enum Kind {
    Null,
    Keeping,
    Cpu,
    CpuNops,
    Software,
}

/// A device that does nothing, as fast as it can.
fn null() -> Dsa {
    let device = Preset::V2Full.capabilities();
    let queue = WorkQueueCapabilities::new(Mode::Shared, 128);
    let mut settings = Settings::default();
    settings.is_null = true;
    let portal = ModelPortal::new(device, queue, settings).with_turn(128);
    Dsa::new([portal.into()]).expect("there is one")
}

/// Ends with the next poll what it has claimed.
#[derive(Default)]
struct Keeping(Vec<Kept>);

#[expect(unsafe_code, reason = "implements the unsafe mover contract")]
// SAFETY: touches no memory: it is given no-ops only.
unsafe impl DataMover for Keeping {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(&[Opcode::Nop]).claim_together(32)
    }

    fn poll(&mut self, lane: &mut Lane<'_>, done: &mut Completions<'_>) -> Progress {
        let has_ended = !self.0.is_empty();
        self.0.drain(..).for_each(|token| done.complete(token, Status::SUCCESS));
        while let Some(token) = lane.claim().map(Claimed::keep) {
            self.0.push(token);
        }
        match (has_ended, self.0.is_empty()) {
            (true, _) => Progress::Busy,
            (false, false) => Progress::Waiting,
            (false, true) => Progress::Idle,
        }
    }
}

/// Source and destination, side by side.
struct Memory {
    src: Vec<u8>,
    dst: Vec<u8>,
}

impl Memory {
    fn new(bytes: usize) -> Self {
        Self { src: (0..=250).cycle().take(bytes).collect(), dst: vec![0; bytes] }
    }

    fn copies(&mut self, len: usize) -> Vec<Sqe> {
        let (dst, src) = (self.dst.as_mut_ptr(), self.src.as_ptr());
        let copy = |at| Sqe::memcpy(dst.wrapping_add(at), src.wrapping_add(at), len);
        (0..self.src.len()).step_by(len).map(copy).collect()
    }
}

/// A queue without threads, and the work of a round.
struct Copies {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    mover: MoverId,
    sqes: Vec<Sqe>,
    memory: Memory,
    is_copied: bool,
    ended: u64,
}

impl Copies {
    fn new(kind: &Kind, batch: usize, len: usize) -> Self {
        let builder = QueuePair::builder().entries(ENTRIES).workers(0).poll_budget(usize::MAX);
        let device = |dsa: Dsa| move || dsa.mover();
        let builder = match kind {
            Kind::Null => builder.mover("it", Drive::Caller, device(null())),
            Kind::Software => builder.mover("it", Drive::Caller, device(Dsa::software())),
            Kind::Keeping => builder.mover("it", Drive::Caller, Keeping::default),
            Kind::Cpu | Kind::CpuNops => builder,
        };
        let pair = builder.build().expect("a queue");
        let mover = pair.mover("it").unwrap_or(WORKERS);
        let (sq, cq) = pair.split();
        let mut memory = Memory::new(batch * len);
        let sqes: Vec<Sqe> = match kind {
            Kind::Keeping | Kind::CpuNops => vec![Sqe::nop().on(mover); batch],
            _ => memory.copies(len).into_iter().map(|sqe| sqe.on(mover)).collect(),
        };
        let is_copied = matches!(kind, Kind::Cpu | Kind::Software);
        Self { sq, cq, mover, sqes, memory, is_copied, ended: 0 }
    }
}

impl Contestant for Copies {
    #[expect(unsafe_code, reason = "pushes entries")]
    fn round(&mut self) {
        // SAFETY: the memory outlives the queue, and is not touched before all has ended.
        unsafe { self.sq.push_batch(&self.sqes) }.expect("there is room");
        self.sq.submit();
        let mut left = self.sqes.len();
        while left > 0 {
            for cqe in self.cq.drain() {
                assert!(cqe.status().is_success());
                left -= 1;
            }
        }
        self.ended += self.sqes.len() as u64;
    }

    fn check(&mut self) {
        let stats = self.cq.stats().mover(self.mover);
        assert_eq!((stats.operations, stats.fallbacks), (self.ended, 0));
        assert!(!self.is_copied || self.memory.dst == self.memory.src, "not copied");
    }
}

/// A loop of memcpy.
struct Plain {
    memory: Memory,
    len: usize,
}

impl Plain {
    fn new(batch: usize, len: usize) -> Self {
        Self { memory: Memory::new(batch * len), len }
    }
}

impl Contestant for Plain {
    fn round(&mut self) {
        let pairs = self.memory.dst.chunks_mut(self.len).zip(self.memory.src.chunks(self.len));
        for (dst, src) in pairs {
            std::hint::black_box(dst).copy_from_slice(std::hint::black_box(src));
        }
    }
}
