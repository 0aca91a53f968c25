//! Who gave a buffer to an operation has it again when the operation gives it back.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let page = vec![0_u8; 64];
    let set = ring.memset(page, 1);
    assert_eq!(page[0], 0);
    let _ = ring.block_on(set);
}
