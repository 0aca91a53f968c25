//! Nor can a view of it.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let view = ring.scope(|s| s.no_cache());
    let _ = view;
}
