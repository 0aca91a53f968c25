//! A scope borrows its ring, which cannot be dropped inside.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let mut page = vec![0; 64];
    let _ = ring.scope(|s| {
        drop(ring);
        s.memset(&mut page, 1);
    });
}
