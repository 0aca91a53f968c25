//! Statuses: the first byte of a completion record, and the last one that the device writes.

use core::fmt;

/// How a descriptor ended. A newtype of the byte, so that an unknown code is still a value.
///
/// Bit 7 says, of a page fault, that the access was a write. To compare with the constants take [`code`](Self::code),
/// which has no such bit. `code` keeps bit 6, as Linux does: the specification's codes have six bits, so one with bit 6
/// is no status of a record, and not that of its lower bits.
///
/// # Examples
///
/// ```
/// use memring::dsa::RecordStatus;
/// let status = RecordStatus::from_u8(0x83);
/// assert_eq!(status.code(), RecordStatus::PAGE_FAULT);
/// assert!(status.is_resumable() && status.fault_was_write());
/// assert_eq!(status.to_string(), "page fault, block-on-fault off (a write)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordStatus(u8);

/// What a status means for who submitted the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StatusClass {
    /// The record is not written yet.
    Pending,
    /// Done.
    Success,
    /// Stopped at a page fault: the rest can be submitted again.
    Partial,
    /// Members of the batch did not all succeed.
    Batch,
    /// The data is not what the operation needs.
    Data,
    /// The descriptor is wrong, or not for this device or work queue.
    Programming,
    /// The device failed.
    Hardware,
    /// Only in the kernel's event log.
    EventLog,
    /// Only in the device's error register: there was no record to write.
    Submission,
    /// No code that is known.
    Unknown,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $class:ident, $text:literal;)*) => {
        impl RecordStatus {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Every code that has a name.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What it means.
            ///
            /// # Examples
            ///
            /// ```
            /// use memring::dsa::{RecordStatus, StatusClass};
            /// assert_eq!(RecordStatus::BAD_OPCODE.class(), StatusClass::Programming);
            /// assert_eq!(RecordStatus::from_u8(0x3f).class(), StatusClass::Unknown);
            /// ```
            #[must_use]
            pub const fn class(self) -> StatusClass {
                match self.code().0 {
                    // With bit 7 it is not pending, and nothing else that is known.
                    0 if self.0 != 0 => StatusClass::Unknown,
                    $($value => StatusClass::$class,)*
                    0x28..=0x2e => StatusClass::Programming,
                    0x51..=0x54 => StatusClass::Submission,
                    _ => StatusClass::Unknown,
                }
            }

            const fn name(self) -> Option<&'static str> {
                match self.code().0 { $($value => Some(stringify!($name)),)* _ => None }
            }

            const fn text(self) -> Option<&'static str> {
                match self.code().0 {
                    $($value => Some($text),)*
                    0x28..=0x2e => Some("inter-domain error"),
                    0x51..=0x54 => Some("submission error"),
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// The record is not written. That of an abandoned member of a batch stays so for ever.
    PENDING = 0x00, Pending, "not complete";
    /// Done.
    SUCCESS = 0x01, Success, "success";
    /// Done; the result is not the expected one, and the descriptor asked to check it. A later fence abandons.
    SUCCESS_PREDICATE = 0x02, Success, "success, false predicate";
    /// Stopped at a page fault: map the page, for writing if bit 7 says so, and submit the rest.
    PAGE_FAULT = 0x03, Partial, "page fault, block-on-fault off";
    /// The same, after the system refused to map the page.
    PAGE_FAULT_REFUSED = 0x04, Partial, "page fault, invalid response";
    /// Some member of the batch did not end with [`SUCCESS`](Self::SUCCESS).
    BATCH_FAILED = 0x05, Batch, "batch had failures";
    /// Stopped at a page fault of the batch's own list.
    BATCH_PAGE_FAULT = 0x06, Partial, "batch list page fault";
    /// The record to apply has offsets that do not ascend.
    DELTA_NOT_ASCENDING = 0x07, Data, "delta offsets not increasing";
    /// The record to apply has an offset outside of the destination.
    DELTA_OUT_OF_RANGE = 0x08, Data, "delta offset out of range";
    /// A data integrity field is wrong.
    DIF_ERROR = 0x09, Data, "DIF error";
    /// The opcode is unknown, not allowed here, or not in a batch.
    BAD_OPCODE = 0x10, Programming, "unsupported opcode";
    /// A flag is set that is reserved here; the record says which.
    INVALID_FLAGS = 0x11, Programming, "invalid flags";
    /// A reserved field is not zero.
    RESERVED_NOT_ZERO = 0x12, Programming, "non-zero reserved field";
    /// The length is zero, or above a limit.
    BAD_LENGTH = 0x13, Programming, "bad transfer size";
    /// The batch has too few or too many members.
    BAD_COUNT = 0x14, Programming, "descriptor count out of range";
    /// The length of a delta record, or its limit, is wrong.
    BAD_DELTA_LENGTH = 0x15, Programming, "delta record size out of range";
    /// Regions overlap that must not.
    OVERLAP = 0x16, Programming, "overlapping buffers";
    /// The destinations of a dualcast differ in their lower 12 bits.
    DUALCAST_MISMATCH = 0x17, Programming, "dualcast destinations differ";
    /// The batch's list is not aligned to 64 bytes.
    MISALIGNED_LIST = 0x18, Programming, "descriptor list misaligned";
    /// There is no such interrupt handle.
    BAD_INTERRUPT_HANDLE = 0x19, Programming, "invalid interrupt handle";
    /// The page of the record itself is missing: not seen in a record, unless the kernel writes it.
    RECORD_PAGE_FAULT = 0x1a, Programming, "page fault on completion record";
    /// The record is not aligned to 32 bytes: not seen in a record.
    MISALIGNED_RECORD = 0x1b, Programming, "completion record misaligned";
    /// An address or a length of a delta, a seed's address, or a stride, is not aligned.
    MISALIGNED = 0x1c, Programming, "misaligned address or size";
    /// The privilege bit of an unprivileged submitter: not seen in a record.
    BAD_PRIVILEGE = 0x1d, Programming, "privilege";
    /// The group cannot do these traffic classes.
    BAD_TRAFFIC_CLASS = 0x1e, Programming, "traffic class configuration";
    /// A drain stopped at a page fault of an address to read back.
    READBACK_PAGE_FAULT = 0x1f, Partial, "page fault on readback address";
    /// The device failed before it wrote anything.
    HARDWARE_ERROR = 0x20, Hardware, "hardware error";
    /// The device failed when it wrote, or read back: what the destination holds is not known.
    WRITE_ERROR = 0x21, Hardware, "hardware error on destination write/readback";
    /// An address could not be translated, and that is not a page fault.
    TRANSLATION_ERROR = 0x22, Hardware, "address translation error";
    /// Only the kernel sees it.
    DRAIN_EVENT = 0x26, EventLog, "drain event";
    /// Only the kernel sees it.
    BATCH_EVENT = 0x27, EventLog, "batch event-log error";
    /// A dedicated work queue was full, and the descriptor is lost: not seen in a record.
    QUEUE_OVERFLOW = 0x53, Submission, "work queue overflow";
}

impl RecordStatus {
    /// The bit that says, of a page fault, that the access was a write.
    const WRITE: u8 = 0x80;

    /// The status of this byte.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::RecordStatus;
    /// assert_eq!(RecordStatus::from_u8(1), RecordStatus::SUCCESS);
    /// ```
    #[must_use]
    #[inline]
    pub const fn from_u8(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::RecordStatus;
    /// assert_eq!(RecordStatus::PAGE_FAULT.at_write().to_u8(), 0x83);
    /// ```
    #[must_use]
    #[inline]
    pub const fn to_u8(self) -> u8 {
        self.0
    }

    /// The status without what bit 7 says: for comparing.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::RecordStatus;
    /// assert_eq!(RecordStatus::from_u8(0x84).code(), RecordStatus::PAGE_FAULT_REFUSED);
    /// ```
    #[must_use]
    #[inline]
    pub const fn code(self) -> Self {
        Self(self.0 & !Self::WRITE)
    }

    /// The status, of an access that was a write.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::RecordStatus;
    /// assert!(RecordStatus::PAGE_FAULT.at_write().fault_was_write());
    /// ```
    #[must_use]
    pub const fn at_write(self) -> Self {
        Self(self.0 | Self::WRITE)
    }

    /// Whether bit 7 says that the faulting access was a write.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!memring::dsa::RecordStatus::PAGE_FAULT.fault_was_write());
    /// ```
    #[must_use]
    #[inline]
    pub const fn fault_was_write(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    /// Whether the device has not written the record.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(memring::dsa::RecordStatus::PENDING.is_pending());
    /// ```
    #[must_use]
    #[inline]
    pub const fn is_pending(self) -> bool {
        self.0 == 0
    }

    /// Whether the operation was done, as expected or not. What a comparison found is in the result, not here.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::RecordStatus;
    /// assert!(RecordStatus::SUCCESS.is_success() && RecordStatus::SUCCESS_PREDICATE.is_success());
    /// assert!(!RecordStatus::PAGE_FAULT.is_success());
    /// ```
    #[must_use]
    #[inline]
    pub const fn is_success(self) -> bool {
        matches!(self.class(), StatusClass::Success)
    }

    /// Whether it stopped at a page fault, and the rest can be submitted.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::RecordStatus;
    /// assert!(RecordStatus::PAGE_FAULT.at_write().is_resumable());
    /// assert!(!RecordStatus::TRANSLATION_ERROR.is_resumable());
    /// ```
    #[must_use]
    #[inline]
    pub const fn is_resumable(self) -> bool {
        matches!(self.class(), StatusClass::Partial)
    }

    /// Whether the descriptor was wrong, or not for this device or work queue: nothing was done.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::RecordStatus;
    /// assert!(RecordStatus::RESERVED_NOT_ZERO.is_programming_error());
    /// ```
    #[must_use]
    pub const fn is_programming_error(self) -> bool {
        matches!(self.class(), StatusClass::Programming)
    }

    /// Whether the device failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::RecordStatus;
    /// assert!(RecordStatus::WRITE_ERROR.is_hardware_error());
    /// ```
    #[must_use]
    pub const fn is_hardware_error(self) -> bool {
        matches!(self.class(), StatusClass::Hardware)
    }

    /// Whether the record says where a page was missing, or an address could not be translated.
    pub(super) const fn has_fault_address(self) -> bool {
        self.is_resumable() || matches!(self.code(), Self::TRANSLATION_ERROR | Self::RECORD_PAGE_FAULT)
    }
}

impl fmt::Debug for RecordStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = if self.fault_was_write() { " | WRITE" } else { "" };
        match self.name() {
            Some(name) => write!(f, "{name}{write}"),
            None => write!(f, "RecordStatus({:#04x})", self.0),
        }
    }
}

impl fmt::Display for RecordStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = if self.fault_was_write() { " (a write)" } else { "" };
        match self.text() {
            Some(text) => write!(f, "{text}{write}"),
            None => write!(f, "status {:#04x}", self.0),
        }
    }
}
