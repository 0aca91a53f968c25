//! Spare capacity holds nothing that could be copied.

use memring::{IoBufMut, Ring};

fn main() {
    let ring = Ring::new().expect("a ring");
    let spare = Vec::with_capacity(64).spare(64);
    let _ = ring.block_on(ring.memcpy(vec![0; 64], spare));
}
