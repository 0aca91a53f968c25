//! The commands that mend a configuration: those of accel-config, which is what administrators have.
//!
//! They are written to be pasted into a shell by a user who may use sudo, so what stands in them of a path is
//! [quoted](word).
//!
//! Source: accel-config(1) and its sub-commands. A queue's size and group can be changed only while its device is
//! disabled, its type and driver while it is disabled itself.

use core::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::QueueId;
use crate::mover::dsa::capabilities::{Mode, WorkQueueCapabilities};

/// Without it the driver gives no process its address space on the device.
pub(super) const KERNEL_PARAMETERS: &str = "boot with intel_iommu=on,sm_on on the kernel's command line";
pub(super) const LOAD_DRIVER: &str = "sudo modprobe idxd";
/// The driver says in the log what the device said; there is no command that always brings it back.
pub(super) const READ_LOG: &str = "sudo dmesg | grep idxd";

/// The entries that a queue gets if its administrator has no other wish.
const SIZE: u32 = 16;

/// What is known of a queue's configuration, as far as it could be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Configured {
    pub(super) id: QueueId,
    pub(super) mode: Option<Mode>,
    /// Zero: none yet.
    pub(super) size: u32,
    pub(super) is_enabled: bool,
    /// The kernel knows the attribute `driver_name`, so the command must set it.
    pub(super) names_driver: bool,
}

impl Configured {
    fn name(self) -> String {
        format!("dsa{}/{}", self.id.device, self.id)
    }

    pub(super) fn enable(self) -> String {
        format!("sudo accel-config enable-wq {}", self.name())
    }

    fn driver(self) -> &'static str {
        if self.names_driver { " --driver-name=user" } else { "" }
    }

    /// Gives a queue that has entries to users.
    pub(super) fn give_to_users(self) -> String {
        if self.size == 0 {
            return format!("sudo accel-config disable-device dsa{}; {}", self.id.device, self.configure_all());
        }
        let name = self.name();
        let disable = if self.is_enabled { format!("sudo accel-config disable-wq {name} && ") } else { String::new() };
        let driver = self.driver();
        format!("{disable}sudo accel-config config-wq {name} --type=user{driver} --name=memring && {}", self.enable())
    }

    /// Puts the queue and an engine into a group; its device must be disabled, and is enabled.
    pub(super) fn configure_all(self) -> String {
        let (name, device, driver) = (self.name(), self.id.device, self.driver());
        let mode = self.mode.unwrap_or(Mode::Shared);
        let size = if self.size == 0 { SIZE } else { self.size };
        let threshold = if mode == Mode::Shared { format!(" --threshold={size}") } else { String::new() };
        let (batch, transfer) =
            (WorkQueueCapabilities::DEFAULT_MAX_BATCH, WorkQueueCapabilities::DEFAULT_MAX_TRANSFER_BYTES);
        format!(
            "sudo accel-config config-engine dsa{device}/engine{device}.0 --group-id=0 && sudo accel-config config-wq \
             {name} --group-id=0 --mode={mode} --wq-size={size}{threshold} --type=user{driver} --name=memring \
             --priority=10 --block-on-fault=0 --max-batch-size={batch} --max-transfer-size={transfer} && {}",
            self.enable_with_device()
        )
    }

    /// The queue is configured; only nothing is enabled.
    pub(super) fn enable_with_device(self) -> String {
        format!("sudo accel-config enable-device dsa{} && {}", self.id.device, self.enable())
    }

    /// The device is enabled, and this queue's group must change.
    pub(super) fn regroup(self) -> String {
        format!("sudo accel-config disable-device dsa{} && {}", self.id.device, self.configure_all())
    }
}

/// The path as one word of a shell: bare where that is safe, else in quotes; what is no text or would move a terminal's
/// cursor, in the quotes with a dollar that know escapes (bash, zsh, and POSIX since 2024).
pub(super) fn word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let is_bare = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(byte);
    match path.to_str() {
        Some(text) if !text.is_empty() && bytes.iter().all(is_bare) => text.to_owned(),
        Some(text) if !text.contains(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut word = "$'".to_owned();
            for byte in bytes {
                match byte {
                    b'\'' | b'\\' => word.extend(['\\', char::from(*byte)]),
                    b' '..=b'~' => word.push(char::from(*byte)),
                    // Three octal digits: no more are read, whatever follows. A String takes everything.
                    _ => _ = write!(word, "\\{byte:03o}"),
                }
            }
            word + "'"
        }
    }
}
