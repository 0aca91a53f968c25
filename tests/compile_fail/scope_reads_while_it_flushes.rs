//! What is flushed is not written meanwhile.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let mut page = vec![7; 64];
    let _ = ring.scope(|s| {
        s.flush(&page);
        page.clear();
    });
}
