//! What is shared is read only.

use std::sync::Arc;

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let shared: Arc<[u8]> = Arc::from([0; 64]);
    let _ = ring.block_on(ring.memset(shared, 1));
}
