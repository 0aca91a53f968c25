//! A concurrent hash map whose values are copied in and out by a virtual data mover.
//!
//! It has a fixed number of slots, each with room for a value of one size. Every operation is a chain of futures:
//!
//! ```text
//!   put:     claim a slot of the key ─▶ copy the value in, by the mover ─▶ publish it, and unlock
//!   get:     find the key, and lock it ─▶ copy the value out ─▶ unlock
//!   remove:  find the key, and lock it ─▶ copy the value out ─▶ clear the slot, and unlock
//! ```
//!
//! A slot is locked while a mover has its bytes, so a value is never seen half-written. Who finds it locked leaves his
//! waker, and is polled again when it is unlocked. The program has threads hammer a map, each with keys of its own to
//! write and all keys to read, and checks that no value was torn or lost.
//!
//! ```console
//! $ cargo run --release --example hashmap
//! ```
#![expect(unsafe_code, reason = "a mover works on raw memory")]
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::cell::UnsafeCell;
use std::error::Error;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use memring::OpFlags;
use memring::vdm::{Chain, OperationResult, Vdm};

/// The size of a value, bytes.
pub(crate) const VALUE: usize = 1024;

/// A value, in the map or on its way.
pub(crate) type Value = Box<[u8; VALUE]>;

/// Why a map refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// All slots are taken by other keys.
    Full,
    /// The mover could not copy it: it was out of resources, or worse. The map is as it was.
    NotCopied(OperationResult),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("the map is full"),
            Self::NotCopied(result) => write!(f, "the value was not copied: {result:?}"),
        }
    }
}

impl Error for Refused {}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    /// It has held a key: a search for others must go on behind it.
    Removed,
    Key(u64),
}

/// A slot, without its value.
struct Slot {
    content: Content,
    is_locked: bool,
    waiting: Vec<Waker>,
}

/// The bytes of all values. A slot's bytes belong to who has locked it.
struct Bytes(Box<[UnsafeCell<[u8; VALUE]>]>);

// SAFETY: the bytes of a slot are accessed by who has locked it, alone, and the lock orders one after the other.
unsafe impl Sync for Bytes {}

/// The map. It is shared by reference.
pub(crate) struct Map {
    /// Before the bytes, so that it is dropped before them: its drop waits for what is under way.
    vdm: Vdm,
    slots: Mutex<Vec<Slot>>,
    bytes: Bytes,
}

/// What a search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// The key's slot.
    Find,
    /// The key's slot, or one that it can have.
    Claim,
}

/// A slot that this one has locked.
#[derive(Clone, Copy, Debug)]
struct Locked {
    number: usize,
    /// What it held when it was locked.
    before: Content,
}

/// Finds a slot and locks it: a future of our own, in a chain with those of the mover.
struct Search<'m> {
    map: &'m Map,
    key: u64,
    aim: Aim,
}

impl Map {
    /// A map with so many slots, whose values are moved by `vdm`.
    pub(crate) fn new(slots: usize, vdm: Vdm) -> Self {
        let slot = |_| Slot { content: Content::Nothing, is_locked: false, waiting: Vec::new() };
        let bytes = (0..slots).map(|_| UnsafeCell::new([0; VALUE])).collect();
        Self { vdm, slots: Mutex::new((0..slots).map(slot).collect()), bytes: Bytes(bytes) }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn search(&self, key: u64, aim: Aim) -> Search<'_> {
        Search { map: self, key, aim }
    }

    /// Where the bytes of a slot lie.
    fn at(&self, slot: Locked) -> *mut u8 {
        self.bytes.0[slot.number].get().cast()
    }

    /// Leaves a slot with this content, and wakes who waits for it.
    fn unlock(&self, slot: Locked, content: Content) {
        let waiting = {
            let slot = &mut self.slots()[slot.number];
            slot.content = content;
            slot.is_locked = false;
            std::mem::take(&mut slot.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Puts a value under a key; the one before it is gone.
    pub(crate) fn put(&self, key: u64, value: Value) -> Result<(), Refused> {
        // Until the chain is complete a mover may read the value: if anything panics, it is leaked.
        let value = ManuallyDrop::new(value);
        block_on(Chain::new(self.search(key, Aim::Claim)).then_lazy(|slot| async move {
            let slot = slot.ok_or(Refused::Full)?;
            // SAFETY: the slot is locked, so its bytes are ours; the value stays until the chain is complete.
            let copy = unsafe { self.vdm.memcpy(self.at(slot), value.as_ptr(), VALUE, OpFlags::NONE) };
            let chain = Chain::new(copy).map(|copied| {
                let is_copied = copied.result == OperationResult::Success;
                // An operation that was refused has touched nothing.
                self.unlock(slot, if is_copied { Content::Key(key) } else { slot.before });
                copied.result
            });
            let result = chain.await;
            drop(ManuallyDrop::into_inner(value));
            accept(result)
        }))
    }

    /// A copy of the value under a key.
    pub(crate) fn get(&self, key: u64) -> Result<Option<Value>, Refused> {
        self.take(key, |slot, _| slot.before)
    }

    /// Takes the value out that is under a key.
    pub(crate) fn remove(&self, key: u64) -> Result<Option<Value>, Refused> {
        self.take(key, |slot, is_copied| if is_copied { Content::Removed } else { slot.before })
    }

    /// Copies a value out, and leaves its slot with what `after` says.
    fn take(&self, key: u64, after: impl FnOnce(Locked, bool) -> Content) -> Result<Option<Value>, Refused> {
        block_on(Chain::new(self.search(key, Aim::Find)).then_lazy(|slot| async move {
            let Some(slot) = slot else { return Ok(None) };
            let mut value = ManuallyDrop::new(Box::new([0; VALUE]));
            // SAFETY: as in `put`.
            let copy = unsafe { self.vdm.memcpy(value.as_mut_ptr(), self.at(slot), VALUE, OpFlags::NONE) };
            let chain = Chain::new(copy).map(|copied| {
                self.unlock(slot, after(slot, copied.result == OperationResult::Success));
                copied.result
            });
            let result = chain.await;
            let value = ManuallyDrop::into_inner(value);
            accept(result).map(|()| Some(value))
        }))
    }
}

fn accept(result: OperationResult) -> Result<(), Refused> {
    if result == OperationResult::Success { Ok(()) } else { Err(Refused::NotCopied(result)) }
}

impl Search<'_> {
    /// The slot to take, and whether it is free to be locked. None: there is none.
    fn choose(&self, slots: &[Slot]) -> Option<usize> {
        let start = usize::try_from(mix(self.key) % slots.len() as u64).ok()?;
        let mut free = None;
        for number in (start..slots.len()).chain(0..start) {
            match slots[number].content {
                Content::Key(key) if key == self.key => return Some(number),
                Content::Key(_) => {}
                // Somebody is about to put a key there, perhaps this one: wait for it.
                _ if slots[number].is_locked => return Some(number),
                Content::Removed => free = free.or(Some(number)),
                Content::Nothing => {
                    free = free.or(Some(number));
                    break;
                }
            }
        }
        free.filter(|_| self.aim == Aim::Claim)
    }
}

impl Future for Search<'_> {
    type Output = Option<Locked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Locked>> {
        let mut slots = self.map.slots();
        let Some(number) = self.choose(&slots) else { return Poll::Ready(None) };
        let slot = &mut slots[number];
        if slot.is_locked {
            slot.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        slot.is_locked = true;
        Poll::Ready(Some(Locked { number, before: slot.content }))
    }
}

/// Spreads keys over the slots. Source: the finaliser of SplitMix64.
fn mix(key: u64) -> u64 {
    let mixed = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Wakes a thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future until it is ready; sleeps in between.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// The value of a key in its `version`th edition: told apart from all others by each of its words.
fn value_of(key: u64, version: u64) -> Value {
    let mut value = Box::new([0; VALUE]);
    for (word, bytes) in (0..).zip(value.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&word_of(key, version, word).to_le_bytes());
    }
    value
}

/// The first word is the version; each other is made of the key, the version and its place.
fn word_of(key: u64, version: u64, word: u64) -> u64 {
    if word == 0 { version } else { mix(key.wrapping_mul(1 << 20) ^ version.wrapping_mul(1 << 40) ^ word) }
}

/// Which edition of a key's value this is. Panics if it is torn, or another key's.
fn version_of(key: u64, value: &Value) -> u64 {
    let mut words = value.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
    let version = words.next().unwrap_or_default();
    for (word, found) in (1..).zip(words) {
        assert_eq!(found, word_of(key, version, word), "key {key}, version {version}: word {word} is torn");
    }
    version
}

/// What a hammering came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Values put.
    pub(crate) puts: u64,
    /// Values removed.
    pub(crate) removals: u64,
    /// Values read that were there.
    pub(crate) hits: u64,
}

/// Has `threads` threads put, get and remove, and checks all that they see. Each writes `keys` keys of its own, and
/// reads everybody's.
pub(crate) fn hammer(map: &Map, threads: u64, keys: u64, rounds: u64) -> Result<Tally, Refused> {
    let tallies: Vec<Result<Tally, Refused>> = thread::scope(|scope| {
        let start = |thread| scope.spawn(move || hammer_one(map, thread, threads, keys, rounds));
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().map(|thread| thread.join().expect("no check failed")).collect()
    });
    tallies.into_iter().try_fold(Tally::default(), |all, one| {
        let one = one?;
        Ok(Tally { puts: all.puts + one.puts, removals: all.removals + one.removals, hits: all.hits + one.hits })
    })
}

/// One thread's share.
fn hammer_one(map: &Map, thread: u64, threads: u64, keys: u64, rounds: u64) -> Result<Tally, Refused> {
    let mut tally = Tally::default();
    // Which edition of its own keys is in the map; of the others', the last that was seen.
    let mut own: Vec<Option<u64>> = vec![None; usize::try_from(keys).unwrap_or_default()];
    let mut seen = vec![0; usize::try_from(keys * threads).unwrap_or_default()];
    let mut random = mix(thread + 1);
    for version in 1..=rounds {
        random = mix(random.wrapping_add(version));
        let (index, any) = (random % keys, (random >> 20) % (keys * threads));
        let key = index * threads + thread;
        let held = &mut own[usize::try_from(index).unwrap_or_default()];
        if random >> 60 < 11 {
            map.put(key, value_of(key, version))?;
            *held = Some(version);
            tally.puts += 1;
        } else {
            let removed = map.remove(key)?.map(|value| version_of(key, &value));
            assert_eq!(removed, held.take(), "key {key}: its value was lost, or came back");
            tally.removals += u64::from(removed.is_some());
        }
        assert_eq!(map.get(key)?.map(|value| version_of(key, &value)), *held, "key {key}: not what was put");
        if let Some(value) = map.get(any)? {
            let (version, last) = (version_of(any, &value), &mut seen[usize::try_from(any).unwrap_or_default()]);
            assert!(version >= *last, "key {any}: version {version} after {last}");
            *last = version;
            tally.hits += 1;
        }
    }
    for (key, held) in (0..).map(|index| index * threads + thread).zip(&own) {
        assert_eq!(map.get(key)?.map(|value| version_of(key, &value)), *held, "key {key}, at the end");
    }
    Ok(tally)
}

fn main() -> Result<(), Box<dyn Error>> {
    const THREADS: u64 = 4;
    const KEYS: u64 = 32;
    for (name, vdm) in [("synchronous", Vdm::synchronous()?), ("threads", Vdm::threads(1, 64)?)] {
        // As many slots as there are keys: a search may have to look at all of them.
        let map = Map::new(usize::try_from(THREADS * KEYS)?, vdm);
        let tally = hammer(&map, THREADS, KEYS, 2000)?;
        println!("{name}: {tally:?}, and no value was torn or lost");
    }
    Ok(())
}
