//! A buffer may be dropped by another thread, when its operation was.

use std::rc::Rc;

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let page: Rc<[u8]> = Rc::from([7; 64]);
    let _ = ring.block_on(ring.memcpy(vec![0; 64], page));
}
