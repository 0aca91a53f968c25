//! How a kernel gets another command line on this machine: by whichever tool for boot loaders is here.
//!
//! Sources: grubby(8); Debian's grub-mkconfig(8), which reads `/etc/default/grub.d/*.cfg`.

use std::env;
use std::path::PathBuf;

use super::texts::IntelIommu;

/// Where administrators' tools are, also if this user's path does not lead there.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

const GRUBBY: &str = "sudo grubby --update-kernel=ALL --args=intel_iommu=on,sm_on && sudo reboot";
const UPDATE_GRUB: &str = "sudo mkdir -p /etc/default/grub.d && \
    echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX intel_iommu=on,sm_on\"' | \
    sudo tee /etc/default/grub.d/intel-iommu.cfg && sudo update-grub && sudo reboot";
const BY_HAND: &str = "put intel_iommu=on,sm_on on the kernel's command line in the boot loader's configuration, and \
    boot again";
const IN_FIRMWARE: &str = "sudo dmesg | grep -e DMAR -e IOMMU: the command line asks for it already, so switch VT-d \
    on in the firmware's setup";

/// What gives devices the address spaces of processes.
pub(super) fn remedy(iommu: &IntelIommu) -> String {
    let remedy = if iommu.is_right() { IN_FIRMWARE } else { tool().unwrap_or(BY_HAND) };
    remedy.to_owned()
}

/// The command of the first tool that is found.
fn tool() -> Option<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    let tools = [("grubby", GRUBBY), ("update-grub", UPDATE_GRUB)];
    let here = |folder: PathBuf| tools.iter().find(|(name, _)| folder.join(name).is_file()).map(|(_, how)| *how);
    folders.filter(|folder| folder.is_absolute()).find_map(here)
}
