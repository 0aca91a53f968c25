//! Submission entries: what to do, in seven words.
//!
//! An [`Sqe`] is a plain value. Making one touches nothing and promises nothing; the promise about the memory is made
//! when it is pushed ([`SubmissionQueue::push`](crate::queue::SubmissionQueue::push)). In a lane the seven words and
//! the ring's sequence word fill one cache line.
//!
//! | word | content |
//! |---|---|
//! | 0 | opcode u8, sqe flags u8, mover u8 (0: route it), reserved u8, op flags u32 |
//! | 1 | user_data |
//! | 2 | destination address |
//! | 3 | source address, or the set pattern |
//! | 4 | length, bytes |
//! | 5 | the id of the region that the destination is in; 0: look for it |
//! | 6 | internal, zero in a pushed entry: `course.rs` says what for |

use core::fmt;

use memring_ring::Words;

mod check;
mod course;
mod durable;
mod opcode;

pub(crate) use self::check::Refusal;
pub use self::opcode::{OpFlags, Opcode, SqeFlags};

/// Which mover executes an entry.
///
/// [`INLINE`] and [`WORKERS`] are always there; movers added with
/// [`Builder::mover`](crate::queue::Builder::mover) are found by [`QueuePair::mover`](crate::queue::QueuePair::mover).
///
/// # Examples
///
/// ```
/// use memring::{Sqe, WORKERS};
/// assert_eq!(Sqe::nop().on(WORKERS).mover(), WORKERS);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MoverId(u8);

/// Let the route decide. What an entry has unless [`Sqe::on`] says otherwise.
pub const ROUTED: MoverId = MoverId(0);
/// The submitting thread, inside `submit()`.
pub const INLINE: MoverId = MoverId(1);
/// The CPU mover's lane: the worker threads and the waiting caller, or the caller alone when there are no workers.
pub const WORKERS: MoverId = MoverId(2);
/// The mover of durable flushes: io_uring, or a thread that calls fdatasync where that is not allowed.
pub const URING: MoverId = MoverId(3);

impl MoverId {
    /// The id of this value, whether or not a mover bears it.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{MoverId, WORKERS};
    /// assert_eq!(MoverId::from_u8(2), WORKERS);
    /// ```
    #[must_use]
    pub const fn from_u8(value: u8) -> Self {
        Self(value)
    }

    /// The value, as it stands in an entry's word 0 and in a completion.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::INLINE.to_u8(), 1);
    /// ```
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for MoverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ROUTED => f.write_str("ROUTED"),
            INLINE => f.write_str("INLINE"),
            WORKERS => f.write_str("WORKERS"),
            URING => f.write_str("URING"),
            Self(other) => write!(f, "MoverId({other})"),
        }
    }
}

pub(crate) const DESTINATION: usize = 2;
pub(crate) const SOURCE: usize = 3;
pub(crate) const LENGTH: usize = 4;
const REGION: usize = 5;

/// A submission entry. See the [module](self) for its layout.
///
/// # Examples
///
/// ```
/// use memring::{Opcode, Sqe};
/// let (mut dst, src) = ([0_u8; 64], [7_u8; 64]);
/// let sqe = Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 64).user_data(9);
/// assert_eq!((sqe.opcode(), sqe.len(), sqe.data()), (Some(Opcode::Memcpy), 64, 9));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Sqe([u64; Self::WORDS]);

impl Sqe {
    /// Words of an entry.
    pub const WORDS: usize = 7;

    const fn new(opcode: Opcode) -> Self {
        let mut words = [0; Self::WORDS];
        words[0] = opcode as u64;
        Self(words)
    }

    #[inline]
    pub(crate) const fn with_word(mut self, word: usize, value: u64) -> Self {
        self.0[word] = value;
        self
    }

    /// An operation that does nothing and completes.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, Sqe};
    /// assert_eq!(Sqe::nop().opcode(), Some(Opcode::Nop));
    /// ```
    #[must_use]
    pub const fn nop() -> Self {
        Self::new(Opcode::Nop)
    }

    /// Copies `len` bytes from `src` to `dst`, which must not overlap (a push refuses it if they do).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Sqe;
    /// let (mut dst, src) = ([0_u8; 8], [7_u8; 8]);
    /// assert_eq!(Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 8).src(), src.as_ptr());
    /// ```
    #[must_use]
    pub fn memcpy(dst: *mut u8, src: *const u8, len: usize) -> Self {
        Self::new(Opcode::Memcpy).regions(dst, src, len)
    }

    /// Copies `len` bytes from `src` to `dst`, which may overlap.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Sqe;
    /// let mut buffer = [0_u8; 8];
    /// let start = buffer.as_mut_ptr();
    /// assert_eq!(Sqe::memmove(start.wrapping_add(2), start, 6).len(), 6);
    /// ```
    #[must_use]
    pub fn memmove(dst: *mut u8, src: *const u8, len: usize) -> Self {
        Self::new(Opcode::Memmove).regions(dst, src, len)
    }

    /// Sets `len` bytes at `dst` to `value`.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Sqe;
    /// let mut dst = [0_u8; 8];
    /// assert_eq!(Sqe::memset(dst.as_mut_ptr(), 7, 8).pattern(), 7);
    /// ```
    #[must_use]
    pub fn memset(dst: *mut u8, value: u8, len: usize) -> Self {
        let pattern = u64::from(value) * 0x0101_0101_0101_0101;
        Self::new(Opcode::Memset)
            .with_word(DESTINATION, expose(dst))
            .with_word(SOURCE, pattern)
            .with_word(LENGTH, len as u64)
    }

    /// Makes `len` bytes at `dst` as durable as their memory can be. The bytes do not change.
    ///
    /// In a [registered](crate::queue::SubmissionQueue::register) [`Region`](crate::Region) that is backed by a file,
    /// it completes when they are on stable storage. Of other memory it writes the cache lines back, as for persistent
    /// memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, Sqe};
    /// let page = [0_u8; 64];
    /// assert_eq!(Sqe::flush(page.as_ptr(), 64).opcode(), Some(Opcode::Flush));
    /// ```
    #[must_use]
    pub fn flush(dst: *const u8, len: usize) -> Self {
        Self::new(Opcode::Flush).with_word(DESTINATION, dst.expose_provenance() as u64).with_word(LENGTH, len as u64)
    }

    fn regions(self, dst: *mut u8, src: *const u8, len: usize) -> Self {
        self.with_word(DESTINATION, expose(dst))
            .with_word(SOURCE, src.expose_provenance() as u64)
            .with_word(LENGTH, len as u64)
    }

    /// Sets the value that the completion carries back. Free for the caller's use; need not be unique.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::Sqe::nop().user_data(9).data(), 9);
    /// ```
    #[must_use]
    pub const fn user_data(self, user_data: u64) -> Self {
        self.with_word(1, user_data)
    }

    /// Sets the operation's options.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{OpFlags, Sqe};
    /// assert_eq!(Sqe::nop().flags(OpFlags::NO_CACHE_HINT).op_flags(), OpFlags::NO_CACHE_HINT);
    /// ```
    #[must_use]
    pub const fn flags(self, flags: OpFlags) -> Self {
        let word = (self.0[0] & 0xffff_ffff) | ((flags.bits() as u64) << 32);
        self.with_word(0, word)
    }

    /// Sets these flags, beside those that are set: what the five setters below do one by one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, SqeFlags};
    /// assert_eq!(Sqe::nop().with_flags(SqeFlags::DRAIN), Sqe::nop().drain());
    /// ```
    #[must_use]
    pub const fn with_flags(self, flags: SqeFlags) -> Self {
        self.with_word(0, self.0[0] | ((flags.bits() as u64) << 8))
    }

    /// The next entry pushed begins when this one has succeeded: [`SqeFlags::LINK`]. If this one fails, the rest of the
    /// chain ends as [`CANCELLED`](crate::Status::CANCELLED).
    ///
    /// A chain ends with the first entry that is not linked to the next, and at the latest with its submit.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let (src, mut middle, mut dst) = ([7_u8; 64], [0_u8; 64], [0_u8; 64]);
    /// let (mut sq, mut cq) = QueuePair::builder().build()?.split();
    /// let there = Sqe::memcpy(middle.as_mut_ptr(), src.as_ptr(), 64).link();
    /// let onward = Sqe::memcpy(dst.as_mut_ptr(), middle.as_ptr(), 64);
    /// // SAFETY: the arrays outlive `cq`; both entries use `middle`, one after the other.
    /// unsafe { sq.push_batch(&[there, onward]) }?;
    /// sq.submit();
    /// cq.wait(2, None)?;
    /// assert!(cq.drain().all(|cqe| cqe.status().is_success()));
    /// assert_eq!(dst, [7; 64]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn link(self) -> Self {
        self.with_flags(SqeFlags::LINK)
    }

    /// The next entry pushed begins when this one has ended, even if it failed: [`SqeFlags::HARD_LINK`].
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, SqeFlags};
    /// assert_eq!(Sqe::nop().hard_link().sqe_flags(), SqeFlags::HARD_LINK);
    /// ```
    #[must_use]
    pub const fn hard_link(self) -> Self {
        self.with_flags(SqeFlags::HARD_LINK)
    }

    /// This entry begins when all that was submitted before it has ended, and what is submitted after it begins when it
    /// has ended: [`SqeFlags::DRAIN`]. In a chain it holds for the chain as a whole.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, SqeFlags};
    /// assert_eq!(Sqe::nop().drain().sqe_flags(), SqeFlags::DRAIN);
    /// ```
    #[must_use]
    pub const fn drain(self) -> Self {
        self.with_flags(SqeFlags::DRAIN)
    }

    /// Success posts no completion: [`SqeFlags::SKIP_SUCCESS`].
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// // SAFETY: nops touch no memory.
    /// unsafe { sq.push_batch(&[Sqe::nop().skip_success().link(), Sqe::nop().user_data(1)]) }?;
    /// sq.submit();
    /// cq.wait(1, None)?;
    /// assert_eq!(cq.drain().map(|cqe| cqe.user_data()).collect::<Vec<_>>(), [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn skip_success(self) -> Self {
        self.with_flags(SqeFlags::SKIP_SUCCESS)
    }

    /// Successes with equal user data may share a completion: [`SqeFlags::COALESCE`].
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, queue::QueuePair};
    /// let (mut sq, mut cq) = QueuePair::builder().workers(0).build()?.split();
    /// // SAFETY: nops touch no memory.
    /// unsafe { sq.push_batch(&[Sqe::nop().coalesce().user_data(3); 100]) }?;
    /// sq.submit();
    /// let mut ended = 0;
    /// while ended < 100 {
    ///     ended += cq.drain().map(|cqe| cqe.count()).sum::<u32>();
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn coalesce(self) -> Self {
        self.with_flags(SqeFlags::COALESCE)
    }

    /// Chooses the mover, instead of the route.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{INLINE, Sqe};
    /// assert_eq!(Sqe::nop().on(INLINE).mover(), INLINE);
    /// ```
    #[must_use]
    pub const fn on(self, mover: MoverId) -> Self {
        let word = (self.0[0] & !(0xff << 16)) | ((mover.0 as u64) << 16);
        self.with_word(0, word)
    }

    /// The entry of these words, sensible or not: a push checks it.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Sqe;
    /// let unknown = Sqe::from_raw([200, 0, 0, 0, 0, 0, 0]);
    /// assert_eq!(unknown.opcode(), None);
    /// ```
    #[must_use]
    pub const fn from_raw(words: [u64; Self::WORDS]) -> Self {
        Self(words)
    }

    /// The entry's words.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Sqe;
    /// let sqe = Sqe::nop().user_data(3);
    /// assert_eq!(Sqe::from_raw(sqe.to_raw()), sqe);
    /// ```
    #[must_use]
    pub const fn to_raw(self) -> [u64; Self::WORDS] {
        self.0
    }

    /// The opcode, unless its value is unknown to this version.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Opcode, Sqe};
    /// assert_eq!(Sqe::nop().opcode(), Some(Opcode::Nop));
    /// ```
    #[must_use]
    #[inline]
    pub const fn opcode(&self) -> Option<Opcode> {
        Opcode::from_u8(self.0[0].to_le_bytes()[0])
    }

    /// The value that the completion carries back.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::Sqe::nop().data(), 0);
    /// ```
    #[must_use]
    #[inline]
    pub const fn data(&self) -> u64 {
        self.0[1]
    }

    /// The options, known or not.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{OpFlags, Sqe};
    /// assert_eq!(Sqe::nop().op_flags(), OpFlags::NONE);
    /// ```
    #[must_use]
    #[inline]
    pub const fn op_flags(&self) -> OpFlags {
        let [.., a, b, c, d] = self.0[0].to_le_bytes();
        OpFlags::from_bits(u32::from_le_bytes([a, b, c, d]))
    }

    /// What holds between this entry and others, known or not.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{Sqe, SqeFlags};
    /// assert_eq!(Sqe::nop().sqe_flags(), SqeFlags::NONE);
    /// ```
    #[must_use]
    #[inline]
    pub const fn sqe_flags(&self) -> SqeFlags {
        SqeFlags::from_bits(self.0[0].to_le_bytes()[1])
    }

    /// The mover the entry asks for; [`ROUTED`] if it leaves that to the route.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::{ROUTED, Sqe};
    /// assert_eq!(Sqe::nop().mover(), ROUTED);
    /// ```
    #[must_use]
    #[inline]
    pub const fn mover(&self) -> MoverId {
        MoverId(self.0[0].to_le_bytes()[2])
    }

    /// The length, bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::Sqe::nop().len(), 0);
    /// ```
    #[must_use]
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "an entry is no container; zero is a legal length")]
    pub const fn len(&self) -> u64 {
        self.0[LENGTH]
    }

    /// The destination, as an address whose provenance was exposed when the entry was made.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Sqe;
    /// let mut dst = [0_u8; 8];
    /// assert_eq!(Sqe::memset(dst.as_mut_ptr(), 1, 8).dst(), dst.as_mut_ptr());
    /// ```
    #[must_use]
    #[inline]
    pub fn dst(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(address(self.0[DESTINATION]))
    }

    /// The source, likewise. For a memset this is not an address: see [`pattern`](Sqe::pattern).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Sqe;
    /// let (mut dst, src) = ([0_u8; 8], [7_u8; 8]);
    /// assert_eq!(Sqe::memmove(dst.as_mut_ptr(), src.as_ptr(), 8).src(), src.as_ptr());
    /// ```
    #[must_use]
    #[inline]
    pub fn src(&self) -> *const u8 {
        core::ptr::with_exposed_provenance(address(self.0[SOURCE]))
    }

    /// The byte that a memset stores.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::Sqe;
    /// let mut dst = [0_u8; 8];
    /// assert_eq!(Sqe::memset(dst.as_mut_ptr(), 0xab, 8).pattern(), 0xab);
    /// ```
    #[must_use]
    #[inline]
    pub const fn pattern(&self) -> u8 {
        self.0[SOURCE].to_le_bytes()[0]
    }

    /// Word 5: which region it is in.
    #[inline]
    pub(crate) const fn region(&self) -> u64 {
        self.0[REGION]
    }

    pub(crate) const fn with_region(self, id: u64) -> Self {
        self.with_word(REGION, id)
    }

    /// Word 0: opcode, flags and mover.
    #[inline]
    pub(crate) const fn head(&self) -> u64 {
        self.0[0]
    }
}

fn expose(pointer: *mut u8) -> u64 {
    pointer.expose_provenance() as u64
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "it was a pointer, or the push refused it")]
fn address(word: u64) -> usize {
    word as usize
}

impl Words<{ Self::WORDS }> for Sqe {
    #[inline]
    fn to_words(self) -> [u64; Self::WORDS] {
        self.0
    }
    #[inline]
    fn from_words(words: [u64; Self::WORDS]) -> Self {
        Self(words)
    }
}

impl fmt::Debug for Sqe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Sqe");
        match self.opcode() {
            Some(opcode) => out.field("opcode", &opcode),
            None => out.field("opcode", &self.0[0].to_le_bytes()[0]),
        };
        out.field("user_data", &self.data())
            .field("mover", &self.mover())
            .field("sqe_flags", &self.sqe_flags().bits())
            .field("flags", &self.op_flags().bits())
            .field("dst", &format_args!("{:#x}", self.0[DESTINATION]))
            .field("src", &format_args!("{:#x}", self.0[SOURCE]))
            .field("len", &self.len())
            .finish()
    }
}

const _: () = assert!(size_of::<Sqe>() == 56);
