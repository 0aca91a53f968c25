//! Says where cargo has put the library that `memring emulate` carries in itself.
//!
//! The crate `memring-emulator` is a dependency, so its dynamic library is there before the command is compiled: in the
//! folder `deps` of the profile, beside the folder `build` that this script's own output is in. Should a cargo to come
//! lay its folders out in another way, the command is built without the library, and says so.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(has_emulator)");
    let is_possible = ["CARGO_CFG_TARGET_OS=linux", "CARGO_CFG_TARGET_ARCH=x86_64", "CARGO_CFG_TARGET_ENV=gnu"]
        .iter()
        .filter_map(|wanted| wanted.split_once('='))
        .all(|(name, value)| env::var(name).as_deref() == Ok(value));
    // <profile>/build/<package>/out
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let mut folders = out.ancestors();
    let is_known = folders.nth(2).is_some_and(|folder| folder.ends_with("build"));
    let Some(profile) = folders.next().filter(|_| is_possible && is_known) else { return };
    let library = profile.join("deps/libmemring_emulator.so");
    println!("cargo::rustc-cfg=has_emulator");
    println!("cargo::rustc-env=MEMRING_EMULATOR_LIBRARY={}", library.display());
}
