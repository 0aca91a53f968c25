//! Routing: which mover takes an entry. Pure: an entry, a table, an answer.
//!
//! ```text
//!   the entry names a mover (Sqe::on)          -> that one, if it can
//!   its length is at most inline_max (not 0)   -> INLINE, if it can
//!   otherwise                                  -> the first mover that can, WORKERS before the user's own
//! ```

use core::fmt;

use crate::mover::Capabilities;
use crate::sqe::{INLINE, MoverId, Opcode, ROUTED, Refusal, Sqe, WORKERS};

/// Ids from here on belong to the movers of [`Builder::mover`](super::Builder::mover), in the order they were added.
/// Between [`WORKERS`] and this, ids are kept for movers of memring's own.
const FIRST_USER_MOVER: u8 = 16;

/// The routing table of a queue pair.
///
/// # Examples
///
/// ```
/// use memring::{INLINE, Sqe, WORKERS, queue::QueuePair};
/// let pair = QueuePair::builder().inline_max(256).build()?;
/// let src = [0_u8; 4096];
/// let mut dst = [0_u8; 4096];
/// let sqe = Sqe::memcpy(dst.as_mut_ptr(), src.as_ptr(), 4096);
/// assert_eq!(pair.route().choose(&sqe)?, WORKERS);
/// assert_eq!(pair.route().choose(&sqe.on(INLINE))?, INLINE);
/// println!("{}", pair.route().explain(&sqe));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Route {
    inline_max: u64,
    inline: Capabilities,
    /// The movers with lanes: WORKERS, then the user's, in the order of their ids.
    lanes: Box<[Capabilities]>,
}

impl Route {
    pub(crate) fn new(inline_max: u64, inline: Capabilities, lanes: Box<[Capabilities]>) -> Self {
        Self { inline_max, inline, lanes }
    }

    /// The mover that would take this entry.
    ///
    /// # Errors
    ///
    /// What a push of the entry would be refused for.
    pub fn choose(&self, sqe: &Sqe) -> Result<MoverId, super::PushError> {
        self.resolve(sqe).map_err(|refusal| super::PushError::refused(refusal, *sqe))
    }

    /// Why this entry goes where it goes, in a sentence.
    #[must_use]
    pub fn explain(&self, sqe: &Sqe) -> impl fmt::Display {
        match self.choose(sqe) {
            Err(error) => format!("refused: {error}"),
            Ok(mover) if sqe.mover() != ROUTED => format!("{mover:?}: the entry asks for it"),
            Ok(INLINE) => format!("INLINE: {} bytes are at most inline_max, {}", sqe.len(), self.inline_max),
            Ok(mover) => format!("{mover:?}: the first mover that can do it"),
        }
    }

    #[inline]
    pub(crate) fn resolve(&self, sqe: &Sqe) -> Result<MoverId, Refusal> {
        let opcode = sqe.check()?;
        match sqe.mover() {
            ROUTED => self.first_that_can(opcode, sqe),
            INLINE => Self::if_it_can(INLINE, &self.inline, opcode, sqe),
            mover => {
                let lane = lane_of(mover).and_then(|lane| self.lanes.get(lane)).ok_or(Refusal::UnknownMover)?;
                Self::if_it_can(mover, lane, opcode, sqe)
            }
        }
    }

    #[inline]
    fn if_it_can(mover: MoverId, can: &Capabilities, opcode: Opcode, sqe: &Sqe) -> Result<MoverId, Refusal> {
        if can.accept(opcode, sqe) { Ok(mover) } else { Err(Refusal::Unsupported) }
    }

    #[inline]
    fn first_that_can(&self, opcode: Opcode, sqe: &Sqe) -> Result<MoverId, Refusal> {
        if self.inline_max != 0 && sqe.len() <= self.inline_max && self.inline.accept(opcode, sqe) {
            return Ok(INLINE);
        }
        let lane = self.lanes.iter().position(|can| can.accept(opcode, sqe)).ok_or(Refusal::Unsupported)?;
        Ok(mover_of(lane))
    }
}

/// The lane of a mover, by number; none for movers without one.
#[inline]
pub(crate) fn lane_of(mover: MoverId) -> Option<usize> {
    match mover.to_u8() {
        id if id == WORKERS.to_u8() => Some(0),
        id if id >= FIRST_USER_MOVER => Some(usize::from(id - FIRST_USER_MOVER) + 1),
        _ => None,
    }
}

/// The mover of a lane.
///
/// The builder makes no more lanes than there are ids ([`MAX_USER_MOVERS`]).
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the builder makes no more lanes than there are ids")]
pub(crate) fn mover_of(lane: usize) -> MoverId {
    if lane == 0 { WORKERS } else { MoverId::from_u8(FIRST_USER_MOVER + (lane - 1) as u8) }
}

/// How many movers of the user's own a queue can have.
pub(crate) const MAX_USER_MOVERS: usize = (u8::MAX - FIRST_USER_MOVER) as usize + 1;
