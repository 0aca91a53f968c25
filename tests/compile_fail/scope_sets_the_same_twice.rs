//! Nor is one buffer two destinations, not even one after the other: they run at the same time.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let mut page = vec![0; 64];
    let _ = ring.scope(|s| {
        s.memset(&mut page, 1);
        s.memset(&mut page, 2);
    });
}
