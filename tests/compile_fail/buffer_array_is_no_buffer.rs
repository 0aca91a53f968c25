//! The bytes of an array move with it.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let _ = ring.block_on(ring.memset([0_u8; 64], 1));
}
