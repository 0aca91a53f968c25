//! There and back: what it costs to hand an operation to another thread and to learn of its end.
//!
//! The operation is a no-op, so only the way is timed. Each contestant sends a batch of 64-byte entries to one spinning
//! thread, which answers each with a 16-byte completion; the sender spins until all are back, and begins the next
//! batch. Nobody sleeps, and nobody but io_uring makes a system call. The entries of a batch are made beforehand for
//! all; every completion is read, and their sum is checked, by all.
//!
//! | contestant | there | back |
//! |---|---|---|
//! | memring | `push_batch`, `submit`: checked, routed, credited, counted | `drain` alone, which does not help |
//! | ArrayQueue | `crossbeam_queue::ArrayQueue::push`, one by one: it has no batches | another one |
//! | rtrb | one chunk a batch; one producer, one consumer | chunks of up to 128, so both sides work at once |
//! | crossbeam-channel | `bounded`, `try_send` | another one, `try_recv` |
//! | io_uring | `NOP`s pushed together, one `io_uring_enter` to submit them and wait for all | the completion ring |
//! | io_uring, SQPOLL | the same, taken by the kernel's own spinning thread: no system call | the completion ring |
//!
//! memring's own statistics must say that its worker thread executed every single operation. rtrb is the floor: a queue
//! that one producer and one consumer own can do without any read-modify-write.

mod contest;

use std::hint::{black_box, spin_loop};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use contest::{Contestant, Entry, Group};
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use crossbeam_queue::ArrayQueue;
use io_uring::{IoUring, opcode, squeue};
use memring::queue::{CompletionQueue, Driver, QueuePair, SubmissionQueue};
use memring::{Sqe, WORKERS};
use std::sync::Arc;

const BATCHES: [usize; 4] = [1, 32, 1024, 4096];
/// Room in every queue, whatever the batch.
const CAPACITY: usize = 4096;
/// Longer than any run: nobody falls asleep.
const SPIN: Duration = Duration::from_secs(3600);
/// What a peer's thread takes and answers together, where it can: the best of 8, 32, 128 and 4096.
const CHUNK: usize = 128;

/// What the peers send: as long as one slot of a memring lane.
type Message = [u64; 8];
/// What they get back: as long as a completion.
type Answer = [u64; 2];

fn main() {
    let groups: Vec<Group> = BATCHES
        .into_iter()
        .map(|batch| Group {
            name: if batch == 1 { "one at a time".to_owned() } else { format!("batches of {batch}") },
            operations: batch as u64,
            entries: vec![
                Entry::new("memring", move || Memring::new(batch)),
                Entry::new("ArrayQueue pair", move || ArrayQueues::new(batch)),
                Entry::new("rtrb, chunks", move || Rtrb::new(batch)),
                Entry::new("crossbeam-channel", move || Channels::new(batch)),
                Entry::fallible("io_uring NOP", move || Uring::new(batch, None)),
                Entry::fallible("io_uring NOP, SQPOLL", move || Uring::new(batch, Some(SPIN))),
            ],
        })
        .collect();
    contest::main("round_trip", &groups);
}

/// What the completions of a batch must add up to: each carries its number.
fn sum_of(batch: usize) -> u64 {
    (1..=batch as u64).sum()
}

/// The messages of a batch, numbered from 1.
fn messages(batch: usize) -> Vec<Message> {
    (1..=batch as u64).map(|number| [0, number, 0, 0, 0, 0, 0, 0]).collect()
}

/// What a peer's thread does with a message: nothing, and says so.
#[inline]
fn answer(message: &Message) -> Answer {
    let [operation, number, ..] = black_box(message);
    [*number, *operation]
}

struct Memring {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    batch: Vec<Sqe>,
    rounds: u64,
}

impl Memring {
    fn new(batch: usize) -> Self {
        let pair = QueuePair::builder().entries(CAPACITY).workers(1).spin(SPIN).build();
        let (sq, cq) = pair.expect("a queue pair").split();
        let batch = (1..=batch as u64).map(|number| Sqe::nop().user_data(number).on(WORKERS)).collect();
        Self { sq, cq, batch, rounds: 0 }
    }
}

impl Contestant for Memring {
    #[expect(unsafe_code, reason = "pushes are unsafe")]
    fn round(&mut self) {
        // SAFETY: no-ops touch no memory.
        unsafe { self.sq.push_batch(&self.batch) }.expect("room for a batch");
        self.sq.submit();
        let (mut back, mut sum) = (0, 0);
        while back < self.batch.len() {
            let before = back;
            for cqe in self.cq.drain() {
                assert!(cqe.status().is_success());
                sum += cqe.user_data();
                back += 1;
            }
            if back == before {
                spin_loop();
            }
        }
        assert_eq!(sum, sum_of(self.batch.len()));
        self.rounds += 1;
    }

    fn check(&mut self) {
        let stats = self.cq.stats();
        let by_thread = stats.driver(WORKERS, Driver::Thread(0)).map(|driver| driver.operations);
        assert_eq!(by_thread, Some(self.rounds * self.batch.len() as u64), "somebody else worked: {stats:?}");
    }
}

/// A thread that answers what comes to it.
struct Peer(Option<JoinHandle<()>>);

impl Peer {
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(thread::spawn(body)))
    }

    /// Waits for the end of a thread that was told to end.
    fn join(&mut self) {
        if let Some(thread) = self.0.take() {
            thread.join().expect("the peer's thread");
        }
    }
}

struct ArrayQueues {
    there: Arc<ArrayQueue<Message>>,
    back: Arc<ArrayQueue<Answer>>,
    batch: Vec<Message>,
    peer: Peer,
}

impl ArrayQueues {
    /// The first word of the message that ends the thread.
    const END: u64 = u64::MAX;

    fn new(batch: usize) -> Self {
        let (there, back) = (Arc::new(ArrayQueue::<Message>::new(CAPACITY)), Arc::new(ArrayQueue::new(CAPACITY)));
        let (inbox, outbox) = (Arc::clone(&there), Arc::clone(&back));
        let peer = Peer::spawn(move || {
            loop {
                match inbox.pop() {
                    None => spin_loop(),
                    Some(message) if message[0] == Self::END => return,
                    Some(message) => outbox.push(answer(&message)).expect("room for a batch"),
                }
            }
        });
        Self { there, back, batch: messages(batch), peer }
    }
}

impl Contestant for ArrayQueues {
    fn round(&mut self) {
        for message in &self.batch {
            self.there.push(*message).expect("room for a batch");
        }
        let (mut back, mut sum) = (0, 0);
        while back < self.batch.len() {
            match self.back.pop() {
                None => spin_loop(),
                Some([number, status]) => {
                    assert_eq!(status, 0);
                    sum += number;
                    back += 1;
                }
            }
        }
        assert_eq!(sum, sum_of(self.batch.len()));
    }
}

impl Drop for ArrayQueues {
    fn drop(&mut self) {
        while self.there.push([Self::END; 8]).is_err() {
            spin_loop();
        }
        self.peer.join();
    }
}

struct Rtrb {
    /// None only while it is dropped: that the other end is gone is what ends the thread.
    there: Option<rtrb::Producer<Message>>,
    back: rtrb::Consumer<Answer>,
    batch: Vec<Message>,
    peer: Peer,
}

impl Rtrb {
    fn new(batch: usize) -> Self {
        let (there, mut inbox) = rtrb::RingBuffer::<Message>::new(CAPACITY);
        let (mut outbox, back) = rtrb::RingBuffer::<Answer>::new(CAPACITY);
        let peer = Peer::spawn(move || {
            while !inbox.is_abandoned() {
                let waiting = inbox.slots().min(CHUNK);
                if waiting == 0 {
                    spin_loop();
                    continue;
                }
                let messages = inbox.read_chunk(waiting).expect("these were counted");
                let answers = outbox.write_chunk_uninit(waiting).expect("room for a batch");
                let (first, second) = messages.as_slices();
                answers.fill_from_iter(first.iter().chain(second).map(answer));
                messages.commit_all();
            }
        });
        Self { there: Some(there), back, batch: messages(batch), peer }
    }
}

impl Contestant for Rtrb {
    fn round(&mut self) {
        let there = self.there.as_mut().expect("not dropped");
        // The answers are there a little before the messages' places are free.
        while there.push_entire_slice(&self.batch).is_err() {
            spin_loop();
        }
        let (mut back, mut sum) = (0, 0);
        while back < self.batch.len() {
            let waiting = self.back.slots();
            if waiting == 0 {
                spin_loop();
                continue;
            }
            for [number, status] in self.back.read_chunk(waiting).expect("these were counted") {
                assert_eq!(status, 0);
                sum += number;
            }
            back += waiting;
        }
        assert_eq!(sum, sum_of(self.batch.len()));
    }
}

impl Drop for Rtrb {
    fn drop(&mut self) {
        self.there = None;
        self.peer.join();
    }
}

struct Channels {
    /// None only while it is dropped: a channel without senders ends the thread.
    there: Option<Sender<Message>>,
    back: Receiver<Answer>,
    batch: Vec<Message>,
    peer: Peer,
}

impl Channels {
    fn new(batch: usize) -> Self {
        let (there, inbox) = crossbeam_channel::bounded::<Message>(CAPACITY);
        let (outbox, back) = crossbeam_channel::bounded(CAPACITY);
        let peer = Peer::spawn(move || {
            loop {
                match inbox.try_recv() {
                    Ok(message) => outbox.try_send(answer(&message)).expect("room for a batch"),
                    Err(TryRecvError::Empty) => spin_loop(),
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        });
        Self { there: Some(there), back, batch: messages(batch), peer }
    }
}

impl Contestant for Channels {
    fn round(&mut self) {
        let there = self.there.as_ref().expect("not dropped");
        for message in &self.batch {
            there.try_send(*message).expect("room for a batch");
        }
        let (mut back, mut sum) = (0, 0);
        while back < self.batch.len() {
            match self.back.try_recv() {
                Err(_) => spin_loop(),
                Ok([number, status]) => {
                    assert_eq!(status, 0);
                    sum += number;
                    back += 1;
                }
            }
        }
        assert_eq!(sum, sum_of(self.batch.len()));
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        self.there = None;
        self.peer.join();
    }
}

struct Uring {
    ring: IoUring,
    batch: Vec<squeue::Entry>,
    polled: bool,
}

impl Uring {
    fn new(batch: usize, polled: Option<Duration>) -> Result<Self, String> {
        let mut builder = IoUring::builder();
        // What spares the kernel work when one thread submits and reaps.
        builder.setup_single_issuer();
        match polled {
            Some(idle) => builder.setup_sqpoll(u32::try_from(idle.as_millis()).unwrap_or(u32::MAX)),
            None => builder.setup_coop_taskrun(),
        };
        let entries = u32::try_from(CAPACITY).map_err(|error| error.to_string())?;
        let ring = builder.build(entries).map_err(|error| format!("io_uring: {error}"))?;
        let batch = (1..=batch as u64).map(|number| opcode::Nop::new().build().user_data(number)).collect();
        Ok(Self { ring, batch, polled: polled.is_some() })
    }
}

impl Contestant for Uring {
    #[expect(unsafe_code, reason = "pushes are unsafe")]
    fn round(&mut self) {
        let count = self.batch.len();
        // The kernel's own thread may free the places a little later than it posts the completions.
        // SAFETY: no-ops name no memory.
        while unsafe { self.ring.submission().push_multiple(&self.batch) }.is_err() {
            assert!(self.polled, "room for a batch");
            spin_loop();
        }
        if self.polled {
            self.ring.submit().expect("the kernel's thread is awake, or is woken");
        } else {
            self.ring.submit_and_wait(count).expect("the kernel takes a batch");
        }
        let (mut back, mut sum) = (0, 0);
        while back < count {
            let before = back;
            for cqe in self.ring.completion() {
                assert_eq!(cqe.result(), 0);
                sum += cqe.user_data();
                back += 1;
            }
            if back == before {
                spin_loop();
            }
        }
        assert_eq!(sum, sum_of(count));
    }
}
