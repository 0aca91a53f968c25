//! Buffers that know who has them. What was dropped is kept in a grave, which nobody may write any more.
#![expect(unsafe_code, reason = "implements a buffer")]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use memring::{IoBuf, IoBufMut, OutOfRange};

/// What a dropped buffer is filled with.
const DEAD: u8 = 0xdd;
/// After this time a buffer that was not dropped never will be.
const PATIENCE: Duration = Duration::from_secs(60);

/// The buffers of a test: how many were made, and the graves of those that were dropped.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<(Mutex<Books>, Condvar)>);

#[derive(Default)]
struct Books {
    made: usize,
    graves: Vec<Box<[u8]>>,
}

/// A buffer on the heap.
pub(crate) struct Canary {
    bytes: Box<[u8]>,
    ledger: Ledger,
}

impl Ledger {
    /// A buffer of so many bytes, each of this value.
    pub(crate) fn make(&self, len: usize, value: u8) -> Canary {
        self.0.0.lock().expect("nobody panics with it").made += 1;
        Canary { bytes: vec![value; len].into(), ledger: self.clone() }
    }

    /// How many were dropped.
    pub(crate) fn dropped(&self) -> usize {
        self.0.0.lock().expect("nobody panics with it").graves.len()
    }

    /// Waits until every buffer was dropped, each once, and looks whether anyone has written to one since.
    ///
    /// # Panics
    ///
    /// If a buffer is not dropped, or a grave was disturbed.
    pub(crate) fn close(self) {
        let (books, changed) = &*self.0;
        let books = books.lock().expect("nobody panics with it");
        let waited = changed.wait_timeout_while(books, PATIENCE, |books| books.graves.len() < books.made);
        let (books, _) = waited.expect("nobody panics with it");
        assert_eq!(books.graves.len(), books.made, "buffers dropped, and made");
        assert!(books.graves.iter().flatten().all(|&byte| byte == DEAD), "somebody wrote to a buffer that was dropped");
    }
}

impl Canary {
    /// Whether every byte has this value.
    pub(crate) fn is_all(&self, value: u8) -> bool {
        self.bytes.iter().all(|&byte| byte == value)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.bytes.fill(DEAD);
        let (books, changed) = &*self.ledger.0;
        books.lock().expect("nobody panics with it").graves.push(std::mem::take(&mut self.bytes));
        changed.notify_all();
    }
}

// SAFETY: the bytes lie on the heap, and move nowhere until the canary is dropped.
unsafe impl IoBuf for Canary {
    fn bytes(&self) -> Result<*const [u8], OutOfRange> {
        Ok(&raw const *self.bytes)
    }
}

// SAFETY: as above, and nobody else has them.
unsafe impl IoBufMut for Canary {
    fn bytes_mut(&mut self) -> Result<*mut [u8], OutOfRange> {
        Ok(&raw mut *self.bytes)
    }
}
