//! CRCGEN and COPY_CRC: cyclic redundancy checks of 32 and 64 bits.
//!
//! The definition is a register that takes bits at its top:
//!
//! ```text
//!   register = seed, reflected and inverted          with BYPASS_CRC_REFLECTION: the seed as it is
//!   for each byte, reflected:                        with BYPASS_DATA_REFLECTION: as it is
//!       register's top byte ^= byte
//!       eight times: shift left; if a one fell out, ^= polynomial
//!   result = register, reflected and inverted        with BYPASS_CRC_REFLECTION: as it is
//! ```
//!
//! Reflected means the bits in reverse. With neither flag and seed 0 this is CRC-32C, and of 64 bits what NVMe defines.
//! In every mode a result is the seed that continues it.
//!
//! Here the register is the upper end of a `u64`, for both sizes: the polynomial, the seed and the table of the smaller
//! one lie 32 bits higher, and all else is the same. Eight steps at once are a look into the table.
//!
//! Source: SPEC chapter 8. That the default mode of 64 bits is NVMe's is inferred from the polynomial.

use crate::mover::dsa::Flags;

/// CRC-32C's polynomial without its highest bit, at the upper end.
const POLYNOMIAL_32: u64 = 0x1edc_6f41 << 32;
const POLYNOMIAL_64: u64 = 0xad93_d235_94c9_3659;

static TABLE_32: [u64; 256] = table(POLYNOMIAL_32);
static TABLE_64: [u64; 256] = table(POLYNOMIAL_64);

/// What becomes of a register with this top byte and no other bit, in eight steps.
const fn table(polynomial: u64) -> [u64; 256] {
    let mut table = [0; 256];
    let mut top: u8 = 0;
    loop {
        let mut register = (top as u64) << 56;
        let mut step = 0;
        while step < 8 {
            let falls_out = register >> 63 != 0;
            register <<= 1;
            if falls_out {
                register ^= polynomial;
            }
            step += 1;
        }
        table[top as usize] = register;
        if top == u8::MAX {
            return table;
        }
        top += 1;
    }
}

/// Copied and summed at once, bytes: still in the nearest cache for the second.
const BLOCK: usize = 4096;

/// A kind of sum, as a descriptor's flags choose it.
///
/// # Examples
///
/// ```
/// use memring::dsa::{Flags, operations::Crc};
/// let crc = Crc::from_flags(Flags::RECORD);
/// assert_eq!(crc.sum(b"123456789", 0), 0xe306_9283);
/// // A result is the seed that continues it.
/// let seed = crc.sum(b"1234", 0);
/// assert_eq!(crc.sum(b"56789", seed), 0xe306_9283);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Crc {
    is_64: bool,
    bypass_crc_reflection: bool,
    bypass_data_reflection: bool,
}

impl Crc {
    /// The sum that these flags ask for; other flags do not matter.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Flags, operations::Crc};
    /// let crc = Crc::from_flags(Flags::CRC_64);
    /// assert_eq!(crc.sum(b"123456789", 0), 0xae8b_1486_0a79_9888);
    /// ```
    #[must_use]
    pub const fn from_flags(flags: Flags) -> Self {
        Self {
            is_64: flags.contains(Flags::CRC_64),
            bypass_crc_reflection: flags.contains(Flags::BYPASS_CRC_REFLECTION),
            bypass_data_reflection: flags.contains(Flags::BYPASS_DATA_REFLECTION),
        }
    }

    /// The size of a sum, and of its seed in memory, which must be aligned to it; bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Flags, operations::Crc};
    /// assert_eq!(Crc::from_flags(Flags::NONE).bytes(), 4);
    /// ```
    #[must_use]
    pub const fn bytes(self) -> usize {
        if self.is_64 { 8 } else { 4 }
    }

    /// The sum of some bytes, after what `seed` is the sum of. Of a seed of 32 bits the upper half does not matter.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Flags, operations::Crc};
    /// assert_eq!(Crc::from_flags(Flags::NONE).sum(&[0; 32], 0), 0x8a91_36aa);
    /// ```
    #[must_use]
    pub fn sum(self, data: &[u8], seed: u64) -> u64 {
        let table = if self.is_64 { &TABLE_64 } else { &TABLE_32 };
        let take = |register: u64, byte: u8| {
            let [.., top] = register.to_le_bytes();
            (register << 8) ^ table[usize::from(top ^ byte)]
        };
        let register = self.register(seed);
        self.result(if self.bypass_data_reflection {
            data.iter().fold(register, |register, byte| take(register, *byte))
        } else {
            data.iter().fold(register, |register, byte| take(register, byte.reverse_bits()))
        })
    }

    /// Copies, and sums what it copied.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Flags, operations::Crc};
    /// let mut dst = [0; 9];
    /// assert_eq!(Crc::from_flags(Flags::NONE).copy(&mut dst, b"123456789", 0), 0xe306_9283);
    /// assert_eq!(&dst, b"123456789");
    /// ```
    pub fn copy(self, dst: &mut [u8], src: &[u8], seed: u64) -> u64 {
        dst.chunks_mut(BLOCK).zip(src.chunks(BLOCK)).fold(self.clipped(seed), |seed, (dst, src)| {
            let len = super::memmove(dst, src);
            self.sum(src.get(..len).unwrap_or_default(), seed)
        })
    }

    /// The bits of a register that are there.
    const fn upper(self) -> u64 {
        if self.is_64 { u64::MAX } else { u64::MAX << 32 }
    }

    /// The bits of a seed that are there.
    const fn clipped(self, seed: u64) -> u64 {
        if self.is_64 { seed } else { seed & 0xffff_ffff }
    }

    const fn register(self, seed: u64) -> u64 {
        // Reversing a u64 brings the lower end of the seed to the upper end of the register.
        let register = if self.bypass_crc_reflection { self.lifted(seed) } else { !seed.reverse_bits() };
        register & self.upper()
    }

    const fn result(self, register: u64) -> u64 {
        match (self.bypass_crc_reflection, self.is_64) {
            (true, true) => register,
            (true, false) => register >> 32,
            (false, _) => self.clipped(!register.reverse_bits()),
        }
    }

    const fn lifted(self, seed: u64) -> u64 {
        if self.is_64 { seed } else { seed << 32 }
    }
}
