//! What the kernel's texts say.
//!
//! Sources: proc_pid_status(5); proc_pid_limits(5); the kernel's Documentation/admin-guide/kernel-parameters.txt
//! (`intel_iommu`).

/// The first two numbers of a kernel's release, as 6 and 18 of `6.18.44-1-amd64`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..end].parse().ok()?))
}

/// What a line of `/proc/self/status` says after its name.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Such a field that is a size, in KiB (`8 kB`).
pub(super) fn kib(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.strip_suffix("kB")?.trim_end().parse().ok()
}

/// Whether the process has the capability of this number in effect.
pub(super) fn has_capability(status: &str, number: u32) -> Option<bool> {
    let set = u64::from_str_radix(field(status, "CapEff")?, 16).ok()?;
    Some(set.checked_shr(number)? & 1 != 0)
}

/// A limit of a process: bytes, or none at all.
pub(super) type Limit = Option<u64>;

/// What `/proc/self/limits` says of locked memory: the limit, and what it may be raised to.
pub(super) fn locked_memory(limits: &str) -> Option<(Limit, Limit)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory "))?;
    let limit = |word: &str| if word == "unlimited" { Some(None) } else { word.parse().ok().map(Some) };
    let mut words = line.split_ascii_whitespace();
    Some((limit(words.next()?)?, limit(words.next()?)?))
}

/// What the kernel's command line asks of Intel's IOMMU.
#[derive(Debug)]
pub(super) struct IntelIommu {
    /// All that it says, if it says something.
    pub(super) said: Option<String>,
    /// On or off, if it says so; the last word counts.
    pub(super) is_on: Option<bool>,
    /// Scalable mode, without which there are no address spaces of processes; likewise.
    pub(super) is_scalable: Option<bool>,
}

impl IntelIommu {
    pub(super) fn read(command_line: &str) -> Self {
        // What follows the two dashes is for the first program.
        let parameters = command_line.split_ascii_whitespace().take_while(|word| *word != "--");
        let said: Vec<&str> = parameters.filter_map(|word| word.strip_prefix("intel_iommu=")).collect();
        let said = (!said.is_empty()).then(|| said.join(","));
        let last = |on, off| {
            let mut words = said.iter().flat_map(|said| said.split(','));
            words.rfind(|word| *word == on || *word == off).map(|word| word == on)
        };
        Self { is_on: last("on", "off"), is_scalable: last("sm_on", "sm_off"), said }
    }

    /// Whether it asks for all that DSA needs.
    pub(super) fn is_right(&self) -> bool {
        (self.is_on, self.is_scalable) == (Some(true), Some(true))
    }
}
