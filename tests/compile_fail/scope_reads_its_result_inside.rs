//! A destination is being written until the scope has ended.

use memring::Ring;

fn main() {
    let ring = Ring::new().expect("a ring");
    let (mut dst, src) = (vec![0; 64], vec![7; 64]);
    let _ = ring.scope(|s| {
        s.memcpy(&mut dst, &src);
        assert_eq!(dst, src);
    });
}
