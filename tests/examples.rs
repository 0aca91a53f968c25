//! Goal: the examples do what they say, not only when somebody runs them.
//!
//! Method: each is a module here, and is run at a length that a test can afford. (That of a mover is run by `vdm.rs`.)

#[expect(dead_code, reason = "its main is for `cargo run`")]
#[path = "../examples/hashmap.rs"]
mod hashmap;
#[path = "support/watchdog.rs"]
mod watchdog;

use memring::vdm::{OperationResult, Vdm};

use hashmap::{Map, Refused, VALUE, Value, hammer};
use watchdog::must_end;

const THREADS: u64 = 4;
const KEYS: u64 = 8;

fn value(byte: u8) -> Value {
    Box::new([byte; VALUE])
}

#[test]
fn threads_hammer_a_hash_map() {
    for vdm in [Vdm::synchronous(), Vdm::threads(1, 64), Vdm::threads(2, 64)] {
        let vdm = vdm.expect("a mover");
        must_end(move || {
            let map = Map::new(usize::try_from(THREADS * KEYS).expect("few"), vdm);
            let tally = hammer(&map, THREADS, KEYS, 300).expect("there is room for all");
            assert!(tally.puts > 100 && tally.removals > 10 && tally.hits > 100, "{tally:?}");
        });
    }
}

#[test]
fn a_map_is_full_and_has_room_again() {
    let map = Map::new(2, Vdm::synchronous().expect("a mover"));
    assert_eq!(map.put(1, value(1)), Ok(()));
    assert_eq!(map.put(2, value(2)), Ok(()));
    assert_eq!(map.put(3, value(3)), Err(Refused::Full));
    assert_eq!(map.put(1, value(4)), Ok(()), "it is there already");
    assert_eq!(map.get(3), Ok(None));
    assert_eq!(map.remove(2), Ok(Some(value(2))));
    assert_eq!((map.remove(2), map.get(2)), (Ok(None), Ok(None)));
    assert_eq!(map.put(3, value(3)), Ok(()));
    assert_eq!((map.get(1), map.get(3)), (Ok(Some(value(4))), Ok(Some(value(3)))));
}

#[test]
fn a_map_is_as_it_was_when_the_mover_has_no_room() {
    let vdm = Vdm::threads(1, 1).expect("a mover");
    // SAFETY: no byte is touched.
    #[expect(unsafe_code, reason = "an operation on raw addresses")]
    let pending = unsafe { vdm.flush(std::ptr::null(), 0, memring::OpFlags::NONE) };
    let map = Map::new(2, vdm);
    let refused = Refused::NotCopied(OperationResult::OutOfMemory);
    assert_eq!(map.put(1, value(1)), Err(refused));
    assert_eq!(map.get(1), Ok(None), "nothing was put");
    drop(pending);
    assert_eq!(map.put(1, value(1)), Ok(()));
    assert_eq!(map.get(1), Ok(Some(value(1))));
}
