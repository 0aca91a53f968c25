//! Views: copies of records. Made by reading one that was written, or by who plays the device, to be written.

use crate::mover::dsa::{DifTags, Flags, RecordStatus};

/// What a completion record says.
///
/// A field that belongs to another operation or status may hold anything; those whose validity the status tells are
/// options.
///
/// # Examples
///
/// ```
/// use memring::dsa::{RecordStatus, RecordView};
/// let view = RecordView::new(RecordStatus::SUCCESS).with_crc32(0xe306_9283);
/// assert_eq!(view.crc32(), 0xe306_9283);
/// assert_eq!(view.fault(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordView {
    pub(super) status: RecordStatus,
    pub(super) result: u8,
    pub(super) fault_info: u8,
    pub(super) unused: u8,
    pub(super) bytes_completed: u32,
    pub(super) fault_address: u64,
    pub(super) at_16: u64,
    pub(super) at_24: u64,
}

/// Where an operation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// An address in the page; a device may report the page's own.
    pub address: u64,
    /// Whether the page was to be written.
    pub is_write: bool,
}

/// More about a fault, from devices that tell (GENCAP bit 12). Of others it may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FaultInfo {
    /// Whether the address is not told.
    pub is_masked: bool,
    /// Whose address it is: 1 source, list, record to apply or first readback; 2 second source, seed or second
    /// readback; 3 destination or record to create; 4 second destination; 5 completion record; 6 a list of regions.
    pub operand: u8,
}

impl RecordView {
    /// A record with this status, and zeros.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).bytes_completed(), 0);
    /// ```
    #[must_use]
    pub const fn new(status: RecordStatus) -> Self {
        Self::filled(status, 0)
    }

    /// A record with this status, and every other byte this one: a device may leave anything in what is unused.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// let view = RecordView::filled(RecordStatus::SUCCESS, 0xa5).with_bytes_completed(0);
    /// assert_eq!((view.bytes_completed(), view.result()), (0, 0xa5));
    /// ```
    #[must_use]
    pub const fn filled(status: RecordStatus, byte: u8) -> Self {
        let word = u64::from_le_bytes([byte; 8]);
        Self {
            status,
            result: byte,
            fault_info: byte,
            unused: byte,
            bytes_completed: u32::from_le_bytes([byte; 4]),
            fault_address: word,
            at_16: word,
            at_24: word,
        }
    }

    /// How the descriptor ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert!(RecordView::new(RecordStatus::SUCCESS).status().is_success());
    /// ```
    #[must_use]
    #[inline]
    pub const fn status(&self) -> RecordStatus {
        self.status
    }

    /// The result. Comparisons: 1 if there is a difference. CR_DELTA: 0 no difference, 1 all written, 2 no more room.
    /// MEMMOVE that stopped: 1 if it copied from the end. DIF: which checks failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_result(1).result(), 1);
    /// ```
    #[must_use]
    #[inline]
    pub const fn result(&self) -> u8 {
        self.result
    }

    /// How far an operation came that stopped, bytes; of a comparison, the offset of the difference; of a delta record
    /// that was full, how much was compared. **Zero after a plain success**: it is no length.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::PAGE_FAULT).with_bytes_completed(4096).bytes_completed(), 4096);
    /// ```
    #[must_use]
    #[inline]
    pub const fn bytes_completed(&self) -> u32 {
        self.bytes_completed
    }

    /// Of a batch: how many descriptors were processed. The same field as [`bytes_completed`](Self::bytes_completed).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::BATCH_FAILED).with_bytes_completed(3).descriptors_completed(), 3);
    /// ```
    #[must_use]
    #[inline]
    pub const fn descriptors_completed(&self) -> u32 {
        self.bytes_completed
    }

    /// Where it stopped, if the status says that an address was the reason.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Fault, RecordStatus, RecordView};
    /// let view = RecordView::new(RecordStatus::PAGE_FAULT.at_write()).with_fault_address(0x7000);
    /// assert_eq!(view.fault(), Some(Fault { address: 0x7000, is_write: true }));
    /// ```
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let fault = Fault { address: self.fault_address, is_write: self.status.fault_was_write() };
        self.status.has_fault_address().then_some(fault)
    }

    /// More about it, if the status says so. Only for who knows that the device has GENCAP bit 12.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{FaultInfo, RecordStatus, RecordView};
    /// let info = FaultInfo { is_masked: false, operand: 3 };
    /// assert_eq!(RecordView::new(RecordStatus::PAGE_FAULT).with_fault_info(info).fault_info(), Some(info));
    /// ```
    #[must_use]
    pub fn fault_info(&self) -> Option<FaultInfo> {
        let info = FaultInfo { is_masked: self.fault_info & 1 != 0, operand: (self.fault_info >> 1) & 0b111 };
        self.status.has_fault_address().then_some(info)
    }

    /// The flags that were refused, if that is what the status says.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Flags, RecordStatus, RecordView};
    /// let view = RecordView::new(RecordStatus::INVALID_FLAGS).with_invalid_flags(Flags::BLOCK_ON_FAULT);
    /// assert_eq!(view.invalid_flags(), Some(Flags::BLOCK_ON_FAULT));
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).invalid_flags(), None);
    /// ```
    #[must_use]
    pub fn invalid_flags(&self) -> Option<Flags> {
        (self.status.code() == RecordStatus::INVALID_FLAGS).then(|| Flags::from_bits(self.low_at_16()))
    }

    /// CR_DELTA: the length of the record that was written, bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_delta_record_len(20).delta_record_len(), 20);
    /// ```
    #[must_use]
    pub const fn delta_record_len(&self) -> u32 {
        self.low_at_16()
    }

    /// CRCGEN, COPY_CRC: the sum, or of an operation that stopped, the sum so far.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_crc32(7).crc32(), 7);
    /// ```
    #[must_use]
    pub const fn crc32(&self) -> u32 {
        self.low_at_16()
    }

    /// The same with [`CRC_64`](Flags::CRC_64).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_crc64(7 << 40).crc64(), 7 << 40);
    /// ```
    #[must_use]
    pub const fn crc64(&self) -> u64 {
        self.at_16
    }

    /// DIF_CHECK, DIF_STRP, DIF_UPDT: the tags that the source's next block should have.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DifTags, RecordStatus, RecordView};
    /// let tags = DifTags { reference: 1, application_mask: 2, application: 3 };
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_src_tags(tags).src_tags(), tags);
    /// ```
    #[must_use]
    pub const fn src_tags(&self) -> DifTags {
        DifTags::from_word(self.at_16)
    }

    /// DIF_INS, DIF_UPDT, DIX_GEN: the tags that the destination's next block gets.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DifTags, RecordStatus, RecordView};
    /// let tags = DifTags { reference: 1, application_mask: 2, application: 3 };
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_dst_tags(tags).dst_tags(), tags);
    /// ```
    #[must_use]
    pub const fn dst_tags(&self) -> DifTags {
        DifTags::from_word(self.at_24)
    }

    const fn low_at_16(&self) -> u32 {
        let [a, b, c, d, ..] = self.at_16.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The same record with another first half of the word at 16; what `mask` leaves out stays.
    const fn with_low_at_16(self, value: u32, mask: u64) -> Self {
        Self { at_16: (self.at_16 & !mask) | (value as u64 & mask), ..self }
    }

    /// The same record, with a [result](Self::result).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_result(2).result(), 2);
    /// ```
    #[must_use]
    pub const fn with_result(self, result: u8) -> Self {
        Self { result, ..self }
    }

    /// The same record, with [bytes](Self::bytes_completed) or [descriptors](Self::descriptors_completed) completed.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::PAGE_FAULT).with_bytes_completed(9).bytes_completed(), 9);
    /// ```
    #[must_use]
    pub const fn with_bytes_completed(self, bytes_completed: u32) -> Self {
        Self { bytes_completed, ..self }
    }

    /// The same record, with the address of a [fault](Self::fault), whether the status has one or not.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// let view = RecordView::new(RecordStatus::PAGE_FAULT).with_fault_address(0x7000);
    /// assert!(view.fault().is_some_and(|fault| fault.address == 0x7000));
    /// ```
    #[must_use]
    pub const fn with_fault_address(self, fault_address: u64) -> Self {
        Self { fault_address, ..self }
    }

    /// The same record, with [more about a fault](Self::fault_info).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{FaultInfo, RecordStatus, RecordView};
    /// let info = FaultInfo { is_masked: true, operand: 5 };
    /// assert_eq!(RecordView::new(RecordStatus::PAGE_FAULT).with_fault_info(info).to_bytes()[2], 0b1011);
    /// ```
    #[must_use]
    pub const fn with_fault_info(self, info: FaultInfo) -> Self {
        Self { fault_info: info.is_masked as u8 | ((info.operand & 0b111) << 1), ..self }
    }

    /// The same record, with the [flags](Self::invalid_flags) that were refused.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Flags, RecordStatus, RecordView};
    /// let view = RecordView::new(RecordStatus::INVALID_FLAGS).with_invalid_flags(Flags::FENCE);
    /// assert_eq!(view.to_bytes()[16], 1);
    /// ```
    #[must_use]
    pub const fn with_invalid_flags(self, flags: Flags) -> Self {
        self.with_low_at_16(flags.bits(), 0xff_ffff)
    }

    /// The same record, with the [length](Self::delta_record_len) of a delta record.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_delta_record_len(80).delta_record_len(), 80);
    /// ```
    #[must_use]
    pub const fn with_delta_record_len(self, len: u32) -> Self {
        self.with_low_at_16(len, 0xffff_ffff)
    }

    /// The same record, with a [sum](Self::crc32).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_crc32(u32::MAX).crc64(), 0xffff_ffff);
    /// ```
    #[must_use]
    pub const fn with_crc32(self, crc: u32) -> Self {
        self.with_low_at_16(crc, 0xffff_ffff)
    }

    /// The same record, with a [sum](Self::crc64) of 64 bits.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_crc64(5).crc64(), 5);
    /// ```
    #[must_use]
    pub const fn with_crc64(self, crc: u64) -> Self {
        Self { at_16: crc, ..self }
    }

    /// The same record, with [tags](Self::src_tags) of the source.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DifTags, RecordStatus, RecordView};
    /// let tags = DifTags { reference: 9, ..DifTags::default() };
    /// assert_eq!(RecordView::new(RecordStatus::DIF_ERROR).with_src_tags(tags).to_bytes()[16], 9);
    /// ```
    #[must_use]
    pub const fn with_src_tags(self, tags: DifTags) -> Self {
        Self { at_16: tags.to_word(), ..self }
    }

    /// The same record, with [tags](Self::dst_tags) of the destination.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DifTags, RecordStatus, RecordView};
    /// let tags = DifTags { reference: 9, ..DifTags::default() };
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).with_dst_tags(tags).to_bytes()[24], 9);
    /// ```
    #[must_use]
    pub const fn with_dst_tags(self, tags: DifTags) -> Self {
        Self { at_24: tags.to_word(), ..self }
    }

    /// The record in these bytes: any are one.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// let mut bytes = [0; 32];
    /// bytes[0] = 0x83;
    /// assert_eq!(RecordView::from_bytes(&bytes).status(), RecordStatus::PAGE_FAULT.at_write());
    /// ```
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; 32]) -> Self {
        let [status, result, fault_info, unused, b0, b1, b2, b3] = word(bytes, 0);
        Self {
            status: RecordStatus::from_u8(status),
            result,
            fault_info,
            unused,
            bytes_completed: u32::from_le_bytes([b0, b1, b2, b3]),
            fault_address: u64::from_le_bytes(word(bytes, 8)),
            at_16: u64::from_le_bytes(word(bytes, 16)),
            at_24: u64::from_le_bytes(word(bytes, 24)),
        }
    }

    /// Its bytes, as in memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{RecordStatus, RecordView};
    /// assert_eq!(RecordView::new(RecordStatus::SUCCESS).to_bytes()[0], 1);
    /// ```
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; 32] {
        let [b0, b1, b2, b3] = self.bytes_completed.to_le_bytes();
        let first = [self.status.to_u8(), self.result, self.fault_info, self.unused, b0, b1, b2, b3];
        let words = [first, self.fault_address.to_le_bytes(), self.at_16.to_le_bytes(), self.at_24.to_le_bytes()];
        let mut bytes = [0; 32];
        let (mut left, mut at) = (bytes.as_mut_slice(), 0);
        while let Some((eight, rest)) = left.split_first_chunk_mut::<8>() {
            *eight = words[at];
            (left, at) = (rest, at + 1);
        }
        bytes
    }
}

/// The eight bytes from `at` on, which is below 25.
const fn word(bytes: &[u8; 32], at: usize) -> [u8; 8] {
    let (_, from) = bytes.split_at(at);
    match from.first_chunk() {
        Some(eight) => *eight,
        None => [0; 8],
    }
}
