//! The kernel: its age, and the IOMMU that DSA needs.
//!
//! Sources: Linux `drivers/dma/idxd/cdev.c` (queues for programs since 5.6; shared ones in practice since 5.18).

use serde_json::json;

use super::page::{Check, Section};
use super::places::{Places, names};
use super::texts::{IntelIommu, version};

/// Linux gives programs dedicated queues of a DSA since then, and shared ones since then.
const DEDICATED_SINCE: (u32, u32) = (5, 6);
const SHARED_SINCE: (u32, u32) = (5, 18);
/// DSA is in processors of this architecture only.
const HAS_DSA: bool = cfg!(target_arch = "x86_64");

/// The first two numbers of the kernel's release.
pub(super) fn age(places: &Places) -> Option<(u32, u32)> {
    version(&places.proc("sys/kernel/osrelease")?)
}

/// What the kernel was started with.
pub(super) fn intel_iommu(places: &Places) -> IntelIommu {
    IntelIommu::read(&places.proc("cmdline").unwrap_or_default())
}

pub(super) fn section(places: &Places) -> Section {
    let release = places.proc("sys/kernel/osrelease");
    let since = |first| age(places).map(|age| HAS_DSA && age >= first);
    let (dedicated, shared) = (since(DEDICATED_SINCE), since(SHARED_SINCE));
    let iommu = intel_iommu(places);
    let units = places.sys("class/iommu").map(|folder| names(&folder));
    Section {
        name: "kernel",
        title: "Kernel".to_owned(),
        checks: vec![release_check(release.as_deref(), dedicated, shared), iommu_check(&iommu, units.as_deref())],
        facts: json!({
            "release": release,
            "architecture": std::env::consts::ARCH,
            "dsa_dedicated": dedicated,
            "dsa_shared": shared,
            "iommu_units": units,
            "intel_iommu": iommu.said,
            "intel_iommu_on": iommu.is_on,
            "intel_iommu_scalable": iommu.is_scalable,
        }),
    }
}

fn release_check(release: Option<&str>, dedicated: Option<bool>, shared: Option<bool>) -> Check {
    let Some(release) = release else {
        return Check::not_here("release", "unknown, since sys/kernel/osrelease of /proc cannot be read");
    };
    let says = |what: &str| format!("Linux {release} on {}: {what}", std::env::consts::ARCH);
    match (dedicated, shared) {
        _ if !HAS_DSA => Check::ok("release", says("there is no DSA on machines of this kind")),
        (Some(true), Some(true)) => Check::ok("release", says("new enough for dedicated and shared queues of a DSA")),
        (Some(true), _) => Check::not_here(
            "release",
            says("new enough for dedicated queues of a DSA, not for shared ones, which came with 5.18"),
        ),
        (Some(false), _) => {
            Check::not_here("release", says("too old for queues of a DSA, which programs can use since 5.6"))
        }
        (None, _) => Check::ok("release", says("whether it is new enough for queues of a DSA is unknown")),
    }
}

/// That it is not as DSA needs it is a problem of a device, if there is one.
fn iommu_check(iommu: &IntelIommu, units: Option<&[String]>) -> Check {
    let said = match &iommu.said {
        Some(said) => format!("the kernel's command line says intel_iommu={said}"),
        None => "the kernel's command line says nothing of intel_iommu".to_owned(),
    };
    let needs = if iommu.is_right() { "as DSA needs it" } else { "DSA needs on,sm_on, from there or built in" };
    match units {
        Some([]) => Check::not_here("IOMMU", format!("none is in use; {said}; {needs}")),
        Some(units) => Check::ok("IOMMU", format!("{}; {said}; {needs}", units.join(" "))),
        None => Check::not_here("IOMMU", format!("not looked for in a tree without class/iommu; {said}; {needs}")),
    }
}
