//! What of an entry is about durability, and what a durable copy turns into when its bytes are copied.

use super::{INLINE, MoverId, OpFlags, Opcode, Sqe, WORKERS};

/// In word 0, the bit that the opcode of a flush has and no other, and the flag of durable operations.
const OF_REGION: u64 = Opcode::Flush as u64 | (OpFlags::MEM_DURABLE.bits() as u64) << 32;
const _: () = assert!(Opcode::ALL.len() == 5, "only a flush has this bit");

impl Sqe {
    /// Whether it matters which region it is in: flushes, and what is to be durable.
    #[inline]
    pub(crate) const fn asks_of_region(&self) -> bool {
        self.head() & OF_REGION != 0
    }

    /// As [`asks_of_region`](Sqe::asks_of_region), of any of the entries whose words 0 these are, together.
    #[inline]
    pub(crate) const fn some_ask_of_region(heads: u64) -> bool {
        heads & OF_REGION != 0
    }

    /// Whether its completion says that its destination is durable.
    pub(crate) const fn is_durable(&self) -> bool {
        self.op_flags().contains(OpFlags::MEM_DURABLE)
    }

    /// The same, of which it is not asked.
    pub(crate) const fn without_durable(self) -> Self {
        self.flags(OpFlags::from_bits(self.op_flags().bits() & !OpFlags::MEM_DURABLE.bits()))
    }

    pub(crate) const fn is_flush(&self) -> bool {
        matches!(self.opcode(), Some(Opcode::Flush))
    }

    /// Whether its bytes are in place, once it is done, and not durable yet: a flush must follow.
    #[inline]
    pub(crate) const fn needs_flush(&self) -> bool {
        self.region() != 0 && self.is_durable() && !self.is_flush() && matches!(self.mover(), INLINE | WORKERS)
    }

    /// What follows: the flush of its destination by this mover. All else stays, so its end is that of the operation.
    pub(crate) const fn flush_by(self, mover: MoverId) -> Self {
        self.with_word(0, self.head() & !0xff | Opcode::Flush as u64).on(mover)
    }
}
