//! What the operations do to memory, byte for byte.
//!
//! Pure functions over slices: no descriptor, no device, no address. Who plays a device checks a descriptor, makes
//! slices of what it names, and calls these; tests compare them with what is known of devices. They panic on nothing:
//! regions that should have one length are taken as long as the shorter one, which for a device cannot happen.
//!
//! | file | operations |
//! |---|---|
//! | `copy` | MEMMOVE, DUALCAST |
//! | `fill` | FILL, and the pattern of what is left of one |
//! | `compare` | COMPARE, COMPVAL |
//! | `crc` | CRCGEN, COPY_CRC |
//! | `delta` | CR_DELTA, AP_DELTA |
//!
//! Source: SPEC chapter 8.

mod compare;
mod copy;
mod crc;
mod delta;
mod fill;

pub use compare::{compare, compare_value};
pub use copy::{Direction, dualcast, memmove, memmove_within};
pub use crc::Crc;
pub use delta::{ApplyError, CreateError, Created, DeltaResult, apply_delta, create_delta};
pub use fill::{fill, fill_16, rotated, rotated_16};
