//! Nor can a view of it that was put somewhere.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let mut kept = None;
    let _ = ring.scope(|s| kept = Some(s.no_cache()));
    let _ = kept;
}
