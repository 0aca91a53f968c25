//! A buffer that the body declares is gone when the body ends, before the operations do.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let _ = ring.scope(|s| {
        let mut inside = vec![0; 64];
        s.memset(&mut inside, 1);
    });
}
