//! The two folders that everything about devices is in.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where devices are looked for.
///
/// # Examples
///
/// ```
/// use memring::dsa::Roots;
/// assert_eq!(Roots::system().dev, std::path::Path::new("/dev/dsa"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The folder with `dsa0` and so on.
    pub sysfs: PathBuf,
    /// The folder with `wq0.0` and so on.
    pub dev: PathBuf,
}

impl Roots {
    /// Set to a folder, this takes the place of `/sys/bus/dsa/devices`.
    pub const SYSFS_VARIABLE: &'static str = "MEMRING_DSA_SYSFS";
    /// Set to a folder, this takes the place of `/dev/dsa`.
    pub const DEV_VARIABLE: &'static str = "MEMRING_DSA_DEV";

    /// Those of Linux.
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::Roots;
    /// assert_eq!(Roots::system().sysfs, std::path::Path::new("/sys/bus/dsa/devices"));
    /// ```
    #[must_use]
    pub fn system() -> Self {
        Self { sysfs: "/sys/bus/dsa/devices".into(), dev: "/dev/dsa".into() }
    }

    /// Those of Linux, unless the environment names others by [`SYSFS_VARIABLE`](Self::SYSFS_VARIABLE) and
    /// [`DEV_VARIABLE`](Self::DEV_VARIABLE).
    ///
    /// # Examples
    ///
    /// ```
    /// use memring::dsa::{Roots, discover};
    /// for unusable in discover(&Roots::from_env()).unusable {
    ///     println!("{unusable}");
    /// }
    /// ```
    #[must_use]
    pub fn from_env() -> Self {
        let named = |variable, root: PathBuf| match env::var_os(variable) {
            Some(path) if path != OsString::new() => PathBuf::from(path),
            _ => root,
        };
        let Self { sysfs, dev } = Self::system();
        Self { sysfs: named(Self::SYSFS_VARIABLE, sysfs), dev: named(Self::DEV_VARIABLE, dev) }
    }
}
