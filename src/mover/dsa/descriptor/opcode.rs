//! Opcodes: what a device can be told to do. One byte, which is also the number of the operation's bit in OPCAP.

use core::fmt;

/// An operation's number. A newtype, so that one from a newer specification is still a value.
///
/// # Examples
///
/// ```
/// use memring::dsa::DsaOpcode;
/// assert_eq!(DsaOpcode::MEMMOVE.to_u8(), 3);
/// assert_eq!(DsaOpcode::MEMMOVE.to_string(), "Memory Move");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DsaOpcode(u8);

macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl DsaOpcode {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Every opcode that has a name.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some(stringify!($name)),)* _ => None }
            }

            const fn text(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

// The texts are the specification's names.
opcodes! {
    /// Nothing but its record.
    NOP = 0x00, "No-op";
    /// A list of descriptors.
    BATCH = 0x01, "Batch";
    /// Wait for what was submitted before.
    DRAIN = 0x02, "Drain";
    /// Copy, between regions that may overlap if the device can do that.
    MEMMOVE = 0x03, "Memory Move";
    /// Repeat a pattern of 8 bytes, or 16.
    FILL = 0x04, "Fill";
    /// Find the first difference of two regions.
    COMPARE = 0x05, "Compare";
    /// Find the first difference of a region and a pattern of 8 bytes.
    COMPVAL = 0x06, "Compare Pattern";
    /// Write down how two regions differ.
    CR_DELTA = 0x07, "Create Delta Record";
    /// Apply what was written down.
    AP_DELTA = 0x08, "Apply Delta Record";
    /// Copy to two destinations.
    DUALCAST = 0x09, "Copy with Dualcast";
    /// Fetch address translations; from specification 2.0 on.
    TRANSL_FETCH = 0x0a, "Translation Fetch";
    /// The CRC of a region.
    CRCGEN = 0x10, "CRC Generation";
    /// Copy, and the CRC of what was copied.
    COPY_CRC = 0x11, "Copy with CRC";
    /// Check the data integrity field (DIF) of each block.
    DIF_CHECK = 0x12, "DIF Check";
    /// Copy, adding one to each block.
    DIF_INS = 0x13, "DIF Insert";
    /// Check each, and copy without them.
    DIF_STRP = 0x14, "DIF Strip";
    /// Check each, and copy with others.
    DIF_UPDT = 0x15, "DIF Update";
    /// Make those of blocks, apart from the blocks; from specification 2.0 on.
    DIX_GEN = 0x17, "DIX Generate";
    /// Write the cache lines of a region back, and drop them.
    CFLUSH = 0x20, "Cache Flush";
}

impl DsaOpcode {
    /// The opcode of this value, known or not.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::DsaOpcode;
    /// assert_eq!(DsaOpcode::from_u8(0x20), DsaOpcode::CFLUSH);
    /// assert_eq!(DsaOpcode::from_u8(0xff).to_string(), "opcode 0xff");
    /// ```
    #[must_use]
    #[inline]
    pub const fn from_u8(value: u8) -> Self {
        Self(value)
    }

    /// The value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memring::dsa::DsaOpcode::BATCH.to_u8(), 1);
    /// ```
    #[must_use]
    #[inline]
    pub const fn to_u8(self) -> u8 {
        self.0
    }

    /// Whether a batch may have such a member. A device refuses any other with
    /// [`BAD_OPCODE`](crate::dsa::RecordStatus::BAD_OPCODE).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::DsaOpcode;
    /// assert!(DsaOpcode::MEMMOVE.may_be_in_batch());
    /// assert!(!DsaOpcode::BATCH.may_be_in_batch() && !DsaOpcode::DRAIN.may_be_in_batch());
    /// ```
    #[must_use]
    pub const fn may_be_in_batch(self) -> bool {
        !matches!(self, Self::BATCH | Self::DRAIN | Self(0x21))
    }

    /// Whether a device refuses it without a completion record, since its result would be lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::DsaOpcode;
    /// assert!(DsaOpcode::COMPARE.needs_record());
    /// assert!(!DsaOpcode::MEMMOVE.needs_record());
    /// ```
    #[must_use]
    pub const fn needs_record(self) -> bool {
        let has_result = matches!(self, Self::COMPARE | Self::COMPVAL | Self::CR_DELTA | Self::CRCGEN | Self::COPY_CRC);
        // A drain may ask for an interrupt instead, which Linux gives no user.
        has_result || matches!(self, Self::DIF_CHECK | Self::DIX_GEN | Self::DRAIN)
    }
}

impl fmt::Debug for DsaOpcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "DsaOpcode({:#04x})", self.0),
        }
    }
}

impl fmt::Display for DsaOpcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "opcode {:#04x}", self.0),
        }
    }
}
