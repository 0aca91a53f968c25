//! Leaves debug information out of the library: the command carries it in itself, and writes it to memory at each run.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=-Wl,--strip-debug");
}
