//! Spare capacity is filled from its beginning, since the vector is longer afterwards: it has no parts.

use memring::{IoBufMut, Ring, Slice};

fn main() {
    let ring = Ring::new().expect("a ring");
    let part = Slice::new(Vec::with_capacity(64).spare(64), 32..);
    let _ = ring.block_on(ring.memset(part, 1));
}
