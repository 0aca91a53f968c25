//! Scopes: operations on borrowed memory, which all end before the scope does.
//!
//! A scope submits by itself, with a submission queue that the ring lends it, 32 entries together, so that a thousand
//! copies cost no more than a thousand entries pushed by hand. It works in *pieces* of half the queue, with a place for
//! each:
//!
//! ```text
//!   piece 1 ──pushed──▶ in flight ─────────▶ complete
//!             piece 2 ──pushed──▶ in flight ─────────▶ complete
//!                                  piece 3: begins when piece 1 is complete
//! ```
//!
//! So however long it is, it has at most a queue's worth of operations under way, and they never run dry between two
//! pieces. When others have the credits it stands in line with them.
#![expect(unsafe_code, reason = "pushes entries for memory that the scope's lifetime has borrowed")]

use core::cell::RefCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use memring_ring::slot::Key;

use super::failed::{BlockError, OpError};
use super::shared::Parts;
use super::turns::Seen;
use super::verb::moved;
use crate::error::PushError;
use crate::os::{abort, lock};
use crate::queue::SubmissionQueue;
use crate::sqe::{MoverId, OpFlags, ROUTED, Sqe};

/// Entries that are pushed together.
const TOGETHER: usize = 32;
/// More than a piece has operations: a place is opened with so many, and what did not come is counted down at its end.
const BIAS: u64 = 1 << 48;

/// So many operations end a piece, of a queue with so many entries.
fn piece(entries: usize) -> usize {
    (entries / 2).max(TOGETHER)
}

/// So many operations of one scope are under way or stand in line, at the most: two pieces, each as long as the push
/// that ends it makes it.
pub(super) fn most_at_once(entries: usize) -> usize {
    2 * piece(entries).next_multiple_of(TOGETHER)
}

/// A scope failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeError {
    /// Nothing was run: this thread must not block.
    Block(BlockError),
    /// All operations have ended, and this is the first failure among them that was seen.
    Operation(OpError),
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(error) => error.fmt(f),
            Self::Operation(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ScopeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Block(error) => Some(error),
            Self::Operation(error) => Some(error),
        }
    }
}

/// Where operations on borrowed memory are begun; see [`Ring::scope`](super::Ring::scope).
///
/// What is borrowed by an operation stays borrowed until the scope has ended, so its result cannot be read inside:
///
/// ```compile_fail,E0502
/// # let ring = memring::Ring::new().unwrap();
/// let (mut dst, src) = (vec![0; 4], vec![7; 4]);
/// ring.scope(|s| {
///     s.memcpy(&mut dst, &src);
///     println!("{dst:?}"); // still being written
/// });
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    parts: &'env Parts,
    inside: RefCell<Inside>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// A scope, and how its operations are to be done; by [`Scope::no_cache`] and [`Scope::on`].
#[derive(Clone, Copy, Debug)]
pub struct Scoped<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    flags: OpFlags,
    mover: MoverId,
}

/// What a scope has pushed and not seen the end of.
struct Inside {
    /// None: it was given back.
    sq: Option<SubmissionQueue>,
    waiting: [Sqe; TOGETHER],
    count: usize,
    /// Bytes that its operations touch, so far.
    touched: u64,
    /// The place of the piece that is being pushed, and how many operations it has so far.
    piece: Option<(Key, u64)>,
    /// The place of the piece before it.
    last: Option<Key>,
    error: Option<OpError>,
}

/// Runs the body of a scope, and waits for its operations.
pub(super) fn run<'env, R>(
    parts: &'env Parts,
    body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
) -> Result<R, ScopeError> {
    parts.may_block().map_err(ScopeError::Block)?;
    let scope = Scope::new(parts);
    let result = catch_unwind(AssertUnwindSafe(|| body(&scope)));
    let returns = MustReturn;
    let error = scope.end();
    let _ = ManuallyDrop::new(returns);
    match (result, error) {
        (Err(payload), _) => resume_unwind(payload),
        (Ok(_), Some(error)) => Err(ScopeError::Operation(error)),
        (Ok(result), None) => Ok(result),
    }
}

/// While it lives nothing may unwind: movers have memory that the caller would get back.
struct MustReturn;

impl Drop for MustReturn {
    fn drop(&mut self) {
        abort(format_args!("a panic while a scope waited for its operations"));
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    fn new(parts: &'env Parts) -> Self {
        let spare = lock(&parts.spares).pop();
        let sq = Some(spare.unwrap_or_else(|| parts.direct.clone()));
        let waiting = [Sqe::nop(); TOGETHER];
        let inside = Inside { sq, waiting, count: 0, touched: 0, piece: None, last: None, error: None };
        Self { parts, inside: RefCell::new(inside), scope: PhantomData, env: PhantomData }
    }

    /// Waits for all operations; the first failure.
    fn end(&self) -> Option<OpError> {
        let mut inside = self.inside.borrow_mut();
        inside.push_waiting(self.parts);
        inside.end_piece(self.parts);
        inside.wait_for_last(self.parts);
        if self.parts.direct.is_forked() {
            return inside.error;
        }
        let sq = inside.sq.take();
        lock(&self.parts.spares).extend(sq);
        inside.error
    }

    /// As it is begun by the plain methods.
    fn plain(&'scope self) -> Scoped<'scope, 'env> {
        Scoped { scope: self, flags: OpFlags::NONE, mover: ROUTED }
    }

    /// The same scope, whose operations store past the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let mut big = vec![0; 1 << 20];
    /// ring.scope(|s| s.no_cache().memset(&mut big, 1))?;
    /// assert_eq!(big[77], 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn no_cache(&'scope self) -> Scoped<'scope, 'env> {
        self.plain().no_cache()
    }

    /// The same scope, whose operations are done by this mover.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let mut page = [0; 4096];
    /// ring.scope(|s| s.on(memring::INLINE).memset(&mut page, 1))?;
    /// assert_eq!(page, [1; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on(&'scope self, mover: MoverId) -> Scoped<'scope, 'env> {
        self.plain().on(mover)
    }

    /// Copies `src` to `dst`, which must be equally long; if they are not, the scope fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let mut both = *b"abcdWXYZ";
    /// let (left, right) = both.split_at_mut(4);
    /// ring.scope(|s| s.memcpy(left, right))?;
    /// assert_eq!(&both, b"WXYZWXYZ");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn memcpy(&'scope self, dst: &'scope mut [u8], src: &'scope [u8]) {
        self.plain().memcpy(dst, src);
    }

    /// Copies a range of a buffer to another place in it. If either is not in it, the scope fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let mut buffer = *b"123456";
    /// ring.scope(|s| s.memmove(&mut buffer, 0..4, 2))?;
    /// assert_eq!(&buffer, b"121234");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memmove(&'scope self, buffer: &'scope mut [u8], from: Range<usize>, to: usize) {
        self.plain().memmove(buffer, from, to);
    }

    /// Sets every byte.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let mut pages = vec![9; 1 << 16];
    /// ring.scope(|s| pages.chunks_mut(4096).for_each(|page| s.memset(page, 0)))?;
    /// assert_eq!(pages, vec![0; 1 << 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn memset(&'scope self, dst: &'scope mut [u8], value: u8) {
        self.plain().memset(dst, value);
    }

    /// Writes the cache lines of these bytes back to memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # let ring = memring::Ring::new()?;
    /// let page = [7; 4096];
    /// ring.scope(|s| s.flush(&page))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&'scope self, bytes: &'scope [u8]) {
        self.plain().flush(bytes);
    }
}

impl<'scope> Scoped<'scope, '_> {
    /// The same, storing past the cache.
    pub fn no_cache(self) -> Self {
        Self { flags: self.flags | OpFlags::NO_CACHE_HINT, ..self }
    }

    /// The same, done by this mover.
    pub fn on(self, mover: MoverId) -> Self {
        Self { mover, ..self }
    }

    /// As [`Scope::memcpy`].
    #[inline]
    pub fn memcpy(self, dst: &'scope mut [u8], src: &'scope [u8]) {
        if dst.len() != src.len() {
            return self.fail(OpError::Lengths { dst: dst.len(), src: src.len() });
        }
        self.add(Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), src.len()), 2 * src.len());
    }

    /// As [`Scope::memmove`].
    pub fn memmove(self, buffer: &'scope mut [u8], from: Range<usize>, to: usize) {
        match moved(buffer, &from, to) {
            Ok(sqe) => self.add(sqe, 0),
            Err(range) => self.fail(OpError::Range(range)),
        }
    }

    /// As [`Scope::memset`].
    #[inline]
    pub fn memset(self, dst: &'scope mut [u8], value: u8) {
        self.add(Sqe::memset(dst.as_mut_ptr(), value, dst.len()), dst.len());
    }

    /// As [`Scope::flush`].
    pub fn flush(self, bytes: &'scope [u8]) {
        self.add(Sqe::flush(bytes.as_ptr(), bytes.len()), 0);
    }

    #[cold]
    fn fail(self, error: OpError) {
        self.scope.inside.borrow_mut().error.get_or_insert(error);
    }

    /// Adds an entry whose memory, so many bytes, is borrowed until the scope's end.
    #[inline]
    fn add(self, sqe: Sqe, touches: usize) {
        let mut inside = self.scope.inside.borrow_mut();
        inside.touched = inside.touched.saturating_add(touches as u64);
        // What is borrowed once is not borrowed again, so this is what no cache holds.
        let is_much = touches > 0 && inside.touched >= self.scope.parts.plan.streams_from;
        let flags = if is_much { self.no_cache().flags } else { self.flags };
        let at = inside.count;
        inside.waiting[at] = sqe.flags(flags).on(self.mover);
        inside.count = at + 1;
        if inside.count == TOGETHER {
            inside.push_waiting(self.scope.parts);
        }
    }
}

impl Inside {
    /// Begins what was added.
    fn push_waiting(&mut self, parts: &Parts) {
        let count = std::mem::take(&mut self.count);
        if count == 0 {
            return;
        }
        if parts.direct.is_forked() {
            self.error.get_or_insert(OpError::Forked);
            return;
        }
        let (key, pushed) = *self.piece.get_or_insert_with(|| (parts.entrance.open(&parts.places, BIAS), 0));
        self.waiting[..count].iter_mut().for_each(|sqe| *sqe = sqe.user_data(key.to_word()));
        // All of it may be a mover's from here on, whatever comes in between.
        self.piece = Some((key, pushed + count as u64));
        let (refused, is_called) = self.push(parts, count);
        self.piece = Some((key, pushed + count as u64 - refused));
        if is_called {
            parts.answer_call();
        }
        if pushed + count as u64 >= piece(parts.plan.entries) as u64 {
            self.end_piece(parts);
        }
    }

    /// Begins the first of what was added; how many were refused, and whether the reaper is called for.
    fn push(&mut self, parts: &Parts, count: usize) -> (u64, bool) {
        let Some(sq) = &mut self.sq else { return (count as u64, false) };
        let sqes = &self.waiting[..count];
        if !parts.entrance.is_waited_for() {
            // SAFETY: the memory is borrowed until the scope has ended, and the scope ends when all has completed.
            match unsafe { sq.push_batch(sqes) } {
                // Nobody waits while he holds credits, and this scope's body may.
                Ok(()) => return (self.submit(), false),
                Err(PushError::Full(_) | PushError::TooLong(_)) => {}
                Err(_) => return self.push_singly(parts, count),
            }
        }
        // SAFETY: as above, or as there.
        (0, unsafe { parts.entrance.wait_in_line(sqes) })
    }

    /// Submits what is staged; how many were refused, since the ring was closed.
    fn submit(&mut self) -> u64 {
        let Some(sq) = &mut self.sq else { return 0 };
        let staged = sq.staged();
        let refused = staged - sq.submit();
        if refused > 0 {
            self.error.get_or_insert(OpError::ShutDown);
        }
        refused as u64
    }

    /// Begins what is not refused, and notes the first refusal.
    #[cold]
    fn push_singly(&mut self, parts: &Parts, count: usize) -> (u64, bool) {
        let Some(sq) = &mut self.sq else { return (count as u64, false) };
        let (mut refused, mut is_called) = (0, false);
        for sqe in &self.waiting[..count] {
            // SAFETY: as in `push`.
            match unsafe { sq.push(*sqe) } {
                Ok(()) => {}
                // SAFETY: as above.
                Err(PushError::Full(_)) => is_called |= unsafe { parts.entrance.wait_in_line(&[*sqe]) },
                Err(error) => {
                    self.error.get_or_insert(OpError::refused(&error));
                    refused += 1;
                }
            }
        }
        (refused + self.submit(), is_called)
    }

    /// Closes a piece; and waits for the one before it, so that no more than two are under way.
    fn end_piece(&mut self, parts: &Parts) {
        let Some((key, pushed)) = self.piece.take() else { return };
        if parts.direct.is_forked() {
            return;
        }
        parts.places.count_down(key, BIAS - pushed);
        self.wait_for_last(parts);
        self.last = Some(key);
    }

    /// Waits for the piece before this one.
    fn wait_for_last(&mut self, parts: &Parts) {
        let Some(key) = self.last.take().filter(|_| !parts.direct.is_forked()) else { return };
        // Whether this thread may was asked at the beginning.
        let mut seen = Seen::default();
        let failure = parts.wait_as_guard(
            |context| parts.poll(key, &mut seen, context.waker()),
            || parts.places.outcome(key).is_some(),
        );
        parts.finish(key);
        if let Some(error) = failure {
            self.error.get_or_insert(error);
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}
