//! Two parts of a vector that overlap are no destination and source.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let mut both = vec![0; 64];
    let _ = ring.scope(|s| s.memcpy(&mut both[..40], &both[24..]));
}
