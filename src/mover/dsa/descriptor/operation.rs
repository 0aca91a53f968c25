//! Operations: the fields of each descriptor, by name, and where they lie.
//!
//! All have the places 16, 24 and 32; what they do not hold is in the three words from 40 on.
//!
//! | opcode | 16 (u64) | 24 (u64) | 32 (u32) | 40 | 48 | 56 |
//! |---|---|---|---|---|---|---|
//! | NOP | | | | | | |
//! | BATCH | list | | count | | | |
//! | DRAIN | readback 1 | readback 2 | | | | |
//! | MEMMOVE | src | dst | len | | | |
//! | FILL | pattern | dst | len | more pattern u64 | | |
//! | COMPARE | src 1 | src 2 | len | expected u8 | | |
//! | COMPVAL | src | pattern | len | expected u8 | | |
//! | CR_DELTA | src 1 | src 2 | len | record u64 | its limit u32 | expected u8 |
//! | AP_DELTA | record | dst | len | its length u32 | | |
//! | DUALCAST | src | dst 1 | len | dst 2 u64 | | |
//! | TRANSL_FETCH | address | | len | | stride u32 | |
//! | CRCGEN, COPY_CRC | src | dst | len | seed u32 or u64 | seed address u64 | |
//! | DIF_CHECK, DIF_STRP | src | dst | len | flags | src tags | |
//! | DIF_INS, DIX_GEN | src | dst | len | flags | | dst tags |
//! | DIF_UPDT | src | dst | len | flags | src tags | dst tags |
//! | CFLUSH | | address | len | | | |
//!
//! DIF flags are three bytes: of the source, of the destination, of both. Source: SPEC chapter 8, UAPI.

use super::DsaOpcode;

/// What a descriptor asks for. Addresses are those of the process; lengths are in bytes.
///
/// Fields are as the descriptor has them, whether the flags make them valid or not: decoding loses nothing.
///
/// # Examples
///
/// ```
/// use memring::dsa::{DsaOpcode, Operation};
/// let copy = Operation::Memmove { src: 0x1000, dst: 0x2000, len: 64 };
/// assert_eq!(copy.opcode(), DsaOpcode::MEMMOVE);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "src, dst and len say it; what does not is explained at its variant")]
pub enum Operation {
    /// Nothing.
    Nop,
    /// `count` descriptors from `list` on, a multiple of 64.
    Batch { list: u64, count: u32 },
    /// Wait for what came before; read the addresses back whose flags are set.
    Drain { readback_1: u64, readback_2: u64 },
    /// Copy as if through a buffer.
    Memmove { src: u64, dst: u64, len: u32 },
    /// Repeat a pattern: its 8 bytes, or with [`FILL_16`](super::Flags::FILL_16) those of `pattern_high` after them.
    Fill { pattern: u64, pattern_high: u64, dst: u64, len: u32 },
    /// Compare. Bit 0 of `expected` is the result that [`CHECK_RESULT`](super::Flags::CHECK_RESULT) asks for.
    Compare { src_1: u64, src_2: u64, len: u32, expected: u8 },
    /// Compare with a pattern that repeats; `expected` likewise.
    CompareValue { src: u64, pattern: u64, len: u32, expected: u8 },
    /// Write into `record`, of at most `max_record_len` bytes, what `src_2` has that `src_1` has not. Each bit of
    /// `expected_mask` allows the result of its number.
    CreateDelta { src_1: u64, src_2: u64, len: u32, record: u64, max_record_len: u32, expected_mask: u8 },
    /// Make `dst` what the record's second source was; `len` is that of its sources.
    ApplyDelta { record: u64, dst: u64, len: u32, record_len: u32 },
    /// Copy to two destinations, whose lower 12 bits are equal.
    Dualcast { src: u64, dst_1: u64, dst_2: u64, len: u32 },
    /// Fetch the translations of a region; with [`USE_STRIDE`](super::Flags::USE_STRIDE) one address each `stride`.
    TranslationFetch { address: u64, len: u32, stride: u32 },
    /// Sum, beginning with `seed`, or with [`READ_SEED`](super::Flags::READ_SEED) with what is at `seed_address`.
    Crc { src: u64, len: u32, seed: u64, seed_address: u64 },
    /// Copy, and sum likewise.
    CopyCrc { src: u64, dst: u64, len: u32, seed: u64, seed_address: u64 },
    /// Check the tags of the source's blocks.
    DifCheck { src: u64, len: u32, src_flags: u8, dif_flags: u8, src_tags: DifTags },
    /// Copy and add tags.
    DifInsert { src: u64, dst: u64, len: u32, dst_flags: u8, dif_flags: u8, dst_tags: DifTags },
    /// Check the tags, and copy without them.
    DifStrip { src: u64, dst: u64, len: u32, src_flags: u8, dif_flags: u8, src_tags: DifTags },
    /// Check the tags, and copy with others.
    DifUpdate {
        src: u64,
        dst: u64,
        len: u32,
        src_flags: u8,
        dst_flags: u8,
        dif_flags: u8,
        src_tags: DifTags,
        dst_tags: DifTags,
    },
    /// Write the tags alone.
    DixGenerate { src: u64, dst: u64, len: u32, dst_flags: u8, dif_flags: u8, dst_tags: DifTags },
    /// Write the region's cache lines back, and drop them.
    CacheFlush { address: u64, len: u32 },
}

/// Tags of data integrity fields: the seeds in a descriptor, or how far they came in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DifTags {
    /// The reference tag.
    pub reference: u32,
    /// Which bits of the application tag are ignored.
    pub application_mask: u16,
    /// The application tag.
    pub application: u16,
}

impl DifTags {
    #[inline]
    pub(in crate::mover::dsa) const fn from_word(word: u64) -> Self {
        let [r0, r1, r2, r3, m0, m1, a0, a1] = word.to_le_bytes();
        Self {
            reference: u32::from_le_bytes([r0, r1, r2, r3]),
            application_mask: u16::from_le_bytes([m0, m1]),
            application: u16::from_le_bytes([a0, a1]),
        }
    }

    #[inline]
    pub(in crate::mover::dsa) const fn to_word(self) -> u64 {
        self.reference as u64 | ((self.application_mask as u64) << 32) | ((self.application as u64) << 48)
    }
}

/// The fields of a descriptor that depend on the operation, by their offsets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Body {
    pub(super) at_16: u64,
    pub(super) at_24: u64,
    pub(super) at_32: u32,
    pub(super) at_40: u64,
    pub(super) at_48: u64,
    pub(super) at_56: u64,
}

impl Body {
    const EMPTY: Self = Self { at_16: 0, at_24: 0, at_32: 0, at_40: 0, at_48: 0, at_56: 0 };

    const fn of(at_16: u64, at_24: u64, at_32: u32) -> Self {
        Self { at_16, at_24, at_32, ..Self::EMPTY }
    }
}

const fn low_u32(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

const fn low_u8(word: u64) -> u8 {
    word.to_le_bytes()[0]
}

/// The word at 40 of the DIF operations: flags of the source, of the destination, and of both.
const fn dif_word(src_flags: u8, dst_flags: u8, dif_flags: u8) -> u64 {
    u64::from_le_bytes([src_flags, dst_flags, dif_flags, 0, 0, 0, 0, 0])
}

impl Operation {
    /// The opcode.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{DsaOpcode, Operation};
    /// assert_eq!(Operation::CacheFlush { address: 0x1000, len: 64 }.opcode(), DsaOpcode::CFLUSH);
    /// ```
    #[must_use]
    #[inline]
    pub const fn opcode(&self) -> DsaOpcode {
        match self {
            Self::Nop => DsaOpcode::NOP,
            Self::Batch { .. } => DsaOpcode::BATCH,
            Self::Drain { .. } => DsaOpcode::DRAIN,
            Self::Memmove { .. } => DsaOpcode::MEMMOVE,
            Self::Fill { .. } => DsaOpcode::FILL,
            Self::Compare { .. } => DsaOpcode::COMPARE,
            Self::CompareValue { .. } => DsaOpcode::COMPVAL,
            Self::CreateDelta { .. } => DsaOpcode::CR_DELTA,
            Self::ApplyDelta { .. } => DsaOpcode::AP_DELTA,
            Self::Dualcast { .. } => DsaOpcode::DUALCAST,
            Self::TranslationFetch { .. } => DsaOpcode::TRANSL_FETCH,
            Self::Crc { .. } => DsaOpcode::CRCGEN,
            Self::CopyCrc { .. } => DsaOpcode::COPY_CRC,
            Self::DifCheck { .. } => DsaOpcode::DIF_CHECK,
            Self::DifInsert { .. } => DsaOpcode::DIF_INS,
            Self::DifStrip { .. } => DsaOpcode::DIF_STRP,
            Self::DifUpdate { .. } => DsaOpcode::DIF_UPDT,
            Self::DixGenerate { .. } => DsaOpcode::DIX_GEN,
            Self::CacheFlush { .. } => DsaOpcode::CFLUSH,
        }
    }

    /// Its fields, where they lie.
    #[inline]
    pub(super) const fn body(&self) -> Body {
        match *self {
            Self::Nop => Body::EMPTY,
            Self::Batch { list, count } => Body::of(list, 0, count),
            Self::Drain { readback_1, readback_2 } => Body::of(readback_1, readback_2, 0),
            Self::Memmove { src, dst, len } => Body::of(src, dst, len),
            Self::Fill { pattern, pattern_high, dst, len } => {
                Body { at_40: pattern_high, ..Body::of(pattern, dst, len) }
            }
            Self::Compare { src_1, src_2, len, expected } => {
                Body { at_40: expected as u64, ..Body::of(src_1, src_2, len) }
            }
            Self::CompareValue { src, pattern, len, expected } => {
                Body { at_40: expected as u64, ..Body::of(src, pattern, len) }
            }
            Self::CreateDelta { src_1, src_2, len, record, max_record_len, expected_mask } => Body {
                at_40: record,
                at_48: max_record_len as u64,
                at_56: expected_mask as u64,
                ..Body::of(src_1, src_2, len)
            },
            Self::ApplyDelta { record, dst, len, record_len } => {
                Body { at_40: record_len as u64, ..Body::of(record, dst, len) }
            }
            Self::Dualcast { src, dst_1, dst_2, len } => Body { at_40: dst_2, ..Body::of(src, dst_1, len) },
            Self::TranslationFetch { address, len, stride } => {
                Body { at_48: stride as u64, ..Body::of(address, 0, len) }
            }
            Self::Crc { src, len, seed, seed_address } => {
                Body { at_40: seed, at_48: seed_address, ..Body::of(src, 0, len) }
            }
            Self::CopyCrc { src, dst, len, seed, seed_address } => {
                Body { at_40: seed, at_48: seed_address, ..Body::of(src, dst, len) }
            }
            Self::DifCheck { .. }
            | Self::DifInsert { .. }
            | Self::DifStrip { .. }
            | Self::DifUpdate { .. }
            | Self::DixGenerate { .. } => self.dif_body(),
            Self::CacheFlush { address, len } => Body::of(0, address, len),
        }
    }

    /// The same for the operations on data integrity fields; of another one, nothing.
    const fn dif_body(&self) -> Body {
        match *self {
            Self::DifCheck { src, len, src_flags, dif_flags, src_tags } => {
                Body { at_40: dif_word(src_flags, 0, dif_flags), at_48: src_tags.to_word(), ..Body::of(src, 0, len) }
            }
            Self::DifStrip { src, dst, len, src_flags, dif_flags, src_tags } => {
                Body { at_40: dif_word(src_flags, 0, dif_flags), at_48: src_tags.to_word(), ..Body::of(src, dst, len) }
            }
            Self::DifInsert { src, dst, len, dst_flags, dif_flags, dst_tags }
            | Self::DixGenerate { src, dst, len, dst_flags, dif_flags, dst_tags } => {
                Body { at_40: dif_word(0, dst_flags, dif_flags), at_56: dst_tags.to_word(), ..Body::of(src, dst, len) }
            }
            Self::DifUpdate { src, dst, len, src_flags, dst_flags, dif_flags, src_tags, dst_tags } => Body {
                at_40: dif_word(src_flags, dst_flags, dif_flags),
                at_48: src_tags.to_word(),
                at_56: dst_tags.to_word(),
                ..Body::of(src, dst, len)
            },
            _ => Body::EMPTY,
        }
    }

    /// The operation of this opcode with these fields, if its layout is known.
    #[inline]
    pub(super) const fn from_body(opcode: DsaOpcode, body: Body) -> Option<Self> {
        let Body { at_16, at_24, at_32: len, at_40, at_48, at_56 } = body;
        Some(match opcode {
            DsaOpcode::NOP => Self::Nop,
            DsaOpcode::BATCH => Self::Batch { list: at_16, count: len },
            DsaOpcode::DRAIN => Self::Drain { readback_1: at_16, readback_2: at_24 },
            DsaOpcode::MEMMOVE => Self::Memmove { src: at_16, dst: at_24, len },
            DsaOpcode::FILL => Self::Fill { pattern: at_16, pattern_high: at_40, dst: at_24, len },
            DsaOpcode::COMPARE => Self::Compare { src_1: at_16, src_2: at_24, len, expected: low_u8(at_40) },
            DsaOpcode::COMPVAL => Self::CompareValue { src: at_16, pattern: at_24, len, expected: low_u8(at_40) },
            DsaOpcode::CR_DELTA => Self::CreateDelta {
                src_1: at_16,
                src_2: at_24,
                len,
                record: at_40,
                max_record_len: low_u32(at_48),
                expected_mask: low_u8(at_56),
            },
            DsaOpcode::AP_DELTA => Self::ApplyDelta { record: at_16, dst: at_24, len, record_len: low_u32(at_40) },
            DsaOpcode::DUALCAST => Self::Dualcast { src: at_16, dst_1: at_24, dst_2: at_40, len },
            DsaOpcode::TRANSL_FETCH => Self::TranslationFetch { address: at_16, len, stride: low_u32(at_48) },
            DsaOpcode::CRCGEN => Self::Crc { src: at_16, len, seed: at_40, seed_address: at_48 },
            DsaOpcode::COPY_CRC => Self::CopyCrc { src: at_16, dst: at_24, len, seed: at_40, seed_address: at_48 },
            DsaOpcode::CFLUSH => Self::CacheFlush { address: at_24, len },
            _ => return Self::from_dif_body(opcode, body),
        })
    }

    const fn from_dif_body(opcode: DsaOpcode, body: Body) -> Option<Self> {
        let Body { at_16: src, at_24: dst, at_32: len, at_40, at_48, at_56 } = body;
        let [src_flags, dst_flags, dif_flags, ..] = at_40.to_le_bytes();
        let (src_tags, dst_tags) = (DifTags::from_word(at_48), DifTags::from_word(at_56));
        Some(match opcode {
            DsaOpcode::DIF_CHECK => Self::DifCheck { src, len, src_flags, dif_flags, src_tags },
            DsaOpcode::DIF_INS => Self::DifInsert { src, dst, len, dst_flags, dif_flags, dst_tags },
            DsaOpcode::DIF_STRP => Self::DifStrip { src, dst, len, src_flags, dif_flags, src_tags },
            DsaOpcode::DIF_UPDT => {
                Self::DifUpdate { src, dst, len, src_flags, dst_flags, dif_flags, src_tags, dst_tags }
            }
            DsaOpcode::DIX_GEN => Self::DixGenerate { src, dst, len, dst_flags, dif_flags, dst_tags },
            _ => return None,
        })
    }
}
