//! Capabilities of devices that exist: what a software model can be, and what stands in for what a kernel does not
//! tell.

use core::fmt;
use core::str::FromStr;

use super::capabilities::{DeviceCapabilities, GenCap, OperationSet, VERSION_1, VERSION_2};

/// A device as it was seen in the field.
///
/// | preset | version | GENCAP | OPCAP, low word | seen |
/// |---|---|---|---|---|
/// | `v1-early` | 0x100 | 0x40915f010f | 0x1003f03ff | listings of kernels before 5.17 |
/// | `v1` | 0x100 | 0x40915f0107 | 0x1003f027d | Xeon Gold 5418N and 5512U, Linux 6.17 |
/// | `v2-sierra-forest` | 0x200 | ours | 0x7b00bf067f | `op_config` of a queue of Sierra Forest |
/// | `v2` | 0x200 | ours | 0x7b00bf07ff | the constant of accel-config's test |
///
/// `v1` knows neither BATCH nor the delta operations. No GENCAP of a second version was seen: ours is that of `v1` with
/// all that revision 2.0 of the specification adds and that a program must ask for before it is used, so that the model
/// can do all that a program of ours may ever meet.
///
/// # Examples
///
/// ```
/// use memring::dsa::{DsaOpcode, Preset};
/// let preset: Preset = "v1".parse()?;
/// assert_eq!(preset, Preset::V1Production);
/// assert!(!preset.capabilities().op_cap.contains(DsaOpcode::BATCH));
/// # Ok::<(), memring::dsa::UnknownPreset>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// An early device of the first version, with every operation of it.
    V1Early,
    /// A device of the first version as it is sold: no BATCH, no deltas.
    V1Production,
    /// A device of the second version without deltas.
    V2SierraForest,
    /// A device of the second version with everything.
    V2Full,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::V1Early, Self::V1Production, Self::V2SierraForest, Self::V2Full];

    /// What such a device can do.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{GenCap, Preset};
    /// let device = Preset::V2Full.capabilities();
    /// assert!(device.gen_cap.contains(GenCap::CRC64));
    /// ```
    #[must_use]
    pub const fn capabilities(self) -> DeviceCapabilities {
        let (version, gen_cap, operations) = match self {
            Self::V1Early => (VERSION_1, GenCap::from_bits(0x40_915f_010f), 0x1_003f_03ff),
            Self::V1Production => (VERSION_1, V1, 0x1_003f_027d),
            Self::V2SierraForest => (VERSION_2, V2, 0x7b_00bf_067f),
            Self::V2Full => (VERSION_2, V2, 0x7b_00bf_07ff),
        };
        DeviceCapabilities::new(version, gen_cap, OperationSet::from_words([operations, 0, 0, 0]))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::V1Early => "v1-early",
            Self::V1Production => "v1",
            Self::V2SierraForest => "v2-sierra-forest",
            Self::V2Full => "v2",
        }
    }
}

const V1: GenCap = GenCap::from_bits(0x40_915f_0107);
/// An event log of entries of 64 bytes is the value 1 in bits 14 and 13.
const EVENT_LOG: GenCap = GenCap::from_bits(1 << 13);
const V2: GenCap = V1
    .with(GenCap::INTER_DOMAIN)
    .with(GenCap::FETCH_STRIDE)
    .with(GenCap::DRAIN_READBACK)
    .with(GenCap::FILL_16)
    .with(GenCap::CRC64)
    .with(GenCap::FAULT_INFO)
    .with(EVENT_LOG)
    .with(GenCap::BATCH_CONTINUATION);

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or(UnknownPreset)
    }
}

/// No preset has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPreset;

impl fmt::Display for UnknownPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a preset is one of v1-early, v1, v2-sierra-forest, v2")
    }
}

impl core::error::Error for UnknownPreset {}
