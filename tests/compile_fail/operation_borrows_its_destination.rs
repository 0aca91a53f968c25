//! As a source, so a destination.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let mut dst = vec![0_u8; 64];
    let _ = ring.block_on(ring.memset(&mut dst[..], 1));
}
