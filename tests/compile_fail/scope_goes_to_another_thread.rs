//! A scope is used by the thread that waits for it.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let mut page = vec![0; 64];
    let _ = ring.scope(|s| {
        std::thread::scope(|threads| {
            threads.spawn(|| s.memset(&mut page, 1));
        });
    });
}
