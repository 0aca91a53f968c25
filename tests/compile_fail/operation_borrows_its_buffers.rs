//! An operation can be forgotten, so it owns its buffers: it cannot borrow them.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let src = vec![7_u8; 64];
    let copy = ring.memcpy(vec![0; 64], &src[..]);
    let _ = ring.block_on(copy);
}
