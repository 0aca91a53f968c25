//! What the command says to the library: one variable of the environment, which every program of an emulation inherits.

use std::env;
use std::path::PathBuf;

use crate::faults::Where;

/// The variable. Without it the library does nothing but pass calls on.
pub(crate) const VARIABLE: &str = "MEMRING_EMULATE";
/// For tests only: the model is wrong on purpose in the operation of this name.
const BREAK_VARIABLE: &str = "MEMRING_EMULATE_BREAK";

/// The settings: words with commas between, in the variable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// `page=PATH`: the file of the shared page.
    pub(crate) page: Option<PathBuf>,
    /// `faults=SEED`: page faults, full queues, and all in random order.
    pub(crate) faults: Option<u64>,
    /// `fault-at=first`, `page` or `byte`: where.
    pub(crate) fault_at: Where,
    /// `trace`: a line for each descriptor and record, on stderr.
    pub(crate) is_traced: bool,
    /// `no-mmap`: the portal cannot be mapped.
    pub(crate) refuses_mmap: bool,
    /// `disable-after=N`: the queue is taken away after so many descriptors.
    pub(crate) disable_after: Option<u64>,
    /// What is wrong on purpose.
    pub(crate) broken: Option<Broken>,
}

/// An operation that is wrong on purpose, so that a test can show that it would be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// FILL writes a wrong byte.
    Fill,
    /// MEMMOVE does.
    Memmove,
    /// DUALCAST does.
    Dualcast,
    /// CRCGEN and COPY_CRC say a wrong sum.
    Crc,
    /// COMPARE and COMPVAL say the opposite.
    Compare,
}

impl Settings {
    /// What the environment says; nothing, if this is no emulation.
    pub(crate) fn from_env() -> Option<Self> {
        let text = env::var(VARIABLE).ok()?;
        let mut settings =
            Self { broken: env::var(BREAK_VARIABLE).ok().and_then(|name| broken(&name)), ..Self::default() };
        for word in text.split(',') {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "page" => settings.page = Some(value.into()),
                "faults" => settings.faults = value.parse().ok(),
                "fault-at" => settings.fault_at = place(value),
                "trace" => settings.is_traced = true,
                "no-mmap" => settings.refuses_mmap = true,
                "disable-after" => settings.disable_after = value.parse().ok(),
                _ => {}
            }
        }
        Some(settings)
    }
}

fn place(name: &str) -> Where {
    match name {
        "first" => Where::First,
        "byte" => Where::Byte,
        _ => Where::Page,
    }
}

fn broken(name: &str) -> Option<Broken> {
    match name {
        "fill" => Some(Broken::Fill),
        "memmove" => Some(Broken::Memmove),
        "dualcast" => Some(Broken::Dualcast),
        "crc" => Some(Broken::Crc),
        "compare" => Some(Broken::Compare),
        _ => None,
    }
}
