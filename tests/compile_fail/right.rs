//! Everything that the programs beside this one do wrong, done right.

use memring::{IoBuf, IoBufMut, Ring};

fn main() {
    let ring = Ring::new().expect("a ring");
    let src = vec![7; 64];
    let (mut dst, mut both) = (vec![0; 64], vec![0; 64]);
    let answer = ring.scope(|s| {
        let view = s.no_cache();
        view.memcpy(&mut dst, &src);
        let (left, right) = both.split_at_mut(32);
        s.memcpy(left, &src[..32]);
        s.memset(right, 7);
        5
    });
    assert_eq!((answer, dst == src, both == src), (Ok(5), true, true));
    let copy = ring.memcpy(Vec::with_capacity(8).spare(8), src.slice(..8));
    let elsewhere = std::thread::spawn(move || ring.block_on(copy));
    let (dst, _) = elsewhere.join().expect("a thread").expect("it may").expect("it can");
    assert_eq!(dst.into_inner(), [7; 8]);
}
