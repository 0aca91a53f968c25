//! A scope cannot be used when it has ended.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let scope = ring.scope(|s| s);
    let _ = scope;
}
