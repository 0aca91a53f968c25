//! A disk that this process is: with a cache that loses what was not flushed, and that waits or fails as a test likes.
//!
//! It is one file of a FUSE file system, for a loop device to lie on; the file is the root of its file system. What is
//! written to it goes into its cache, and an fsync of it, which is what the loop device makes of a flush, moves the
//! cache to what is stable. A power cut at any moment leaves what is stable and any part of the cache. Layouts and
//! numbers: include/uapi/linux/fuse.h.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::mounts::Mounted;
use super::random::Random;

/// What is written at once or not at all.
const BLOCK: usize = 4096;
const MAX_WRITE: usize = 128 << 10;

/// The requests that it answers.
mod opcode {
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// The disk. Unmount what lies on it before it is dropped.
pub(crate) struct Disk {
    shared: Arc<Shared>,
    file: Option<Mounted>,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    content: Content,
    /// The number of the error that writes end with.
    errno: Option<i32>,
    hold: Hold,
    /// Whether a write or a flush waits to be let go.
    holds: bool,
    /// After so many more writes and flushes, it keeps an image of itself.
    keep_in: usize,
    kept: Option<Content>,
}

#[derive(Clone)]
struct Content {
    stable: Vec<u8>,
    /// Blocks by their numbers.
    cached: BTreeMap<usize, Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// Writes and flushes wait.
    All,
    /// They wait when the next flush is done.
    AfterFlush,
}

impl Disk {
    /// A disk with this content, whose file is mounted over `file`.
    pub(crate) fn new(content: Vec<u8>, file: &Path) -> Result<Self, String> {
        assert_eq!(content.len() % BLOCK, 0);
        let fuse = File::options().read(true).write(true).open("/dev/fuse").map_err(|e| format!("/dev/fuse: {e}"))?;
        let options = format!("fd={},rootmode=100000,user_id=0,group_id=0", fuse.as_raw_fd());
        let mounted = Mounted::new(Path::new("disk"), file, "fuse", &options)?;
        let content = Content { stable: content, cached: BTreeMap::new() };
        let state = State { content, errno: None, hold: Hold::Nothing, holds: false, keep_in: 0, kept: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let server = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.serve(&fuse)
        });
        Ok(Self { shared, file: Some(mounted), server: Some(server) })
    }

    pub(crate) fn file(&self) -> &Path {
        self.file.as_ref().expect("it is mounted").folder()
    }

    /// What a power cut could leave right now.
    pub(crate) fn image(&self, random: &mut Random) -> Vec<u8> {
        let content = self.shared.state().content.clone();
        content.cut(random)
    }

    /// What a power cut could leave when so many more writes and flushes have come, or none has for a second.
    pub(crate) fn image_in(&self, requests: usize, random: &mut Random) -> Vec<u8> {
        let mut state = self.shared.state();
        state.keep_in = requests;
        let mut state = self.shared.wait(state, |state| state.kept.is_none());
        state.keep_in = 0;
        let content = state.kept.take().unwrap_or_else(|| state.content.clone());
        drop(state);
        content.cut(random)
    }

    /// From now on, writes end with this error, or with none.
    pub(crate) fn fail(&self, errno: Option<i32>) {
        self.shared.state().errno = errno;
    }

    /// Lets writes and flushes wait.
    pub(crate) fn hold(&self) {
        self.shared.state().hold = Hold::All;
    }

    /// Lets go of what waits, up to and with the next flush; what then comes waits.
    pub(crate) fn let_one_flush_through(&self) {
        self.let_go(Hold::AfterFlush);
    }

    /// Lets everything go on.
    pub(crate) fn release(&self) {
        self.let_go(Hold::Nothing);
    }

    fn let_go(&self, hold: Hold) {
        let mut state = self.shared.state();
        (state.hold, state.holds) = (hold, false);
        self.shared.changed.notify_all();
    }

    /// Whether a write or a flush waits.
    pub(crate) fn holds_something(&self) -> bool {
        self.shared.state().holds
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.release();
        drop(self.file.take());
        // With its last user, which is the loop device, the file system ends, and with that the server.
        let ended = self.server.take().map(JoinHandle::join);
        assert!(thread::panicking() || !matches!(ended, Some(Err(_))), "the server has panicked");
    }
}

impl Content {
    fn read(&self, at: usize, len: usize) -> Vec<u8> {
        let end = (at + len).min(self.stable.len());
        let mut bytes = Vec::with_capacity(len);
        let mut at = at;
        while at < end {
            let (number, inside) = (at / BLOCK, at % BLOCK);
            let taken = (BLOCK - inside).min(end - at);
            let block = self.cached.get(&number).map_or(&self.stable[number * BLOCK..], Vec::as_slice);
            bytes.extend_from_slice(&block[inside..][..taken]);
            at += taken;
        }
        bytes
    }

    fn write(&mut self, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, inside) = (at / BLOCK, at % BLOCK);
            let (now, later) = bytes.split_at((BLOCK - inside).min(bytes.len()));
            let stable = &self.stable[number * BLOCK..][..BLOCK];
            let block = self.cached.entry(number).or_insert_with(|| stable.to_vec());
            block[inside..][..now.len()].copy_from_slice(now);
            (at, bytes) = (at + now.len(), later);
        }
    }

    fn flush(&mut self) {
        for (number, block) in std::mem::take(&mut self.cached) {
            self.stable[number * BLOCK..][..BLOCK].copy_from_slice(&block);
        }
    }

    /// What is stable, and each block of the cache or not.
    fn cut(mut self, random: &mut Random) -> Vec<u8> {
        for (number, block) in self.cached {
            if random.below(2) == 0 {
                self.stable[number * BLOCK..][..BLOCK].copy_from_slice(&block);
            }
        }
        self.stable
    }
}

impl State {
    /// A write or a flush comes, or has been done.
    fn count(&mut self) {
        if self.keep_in > 0 {
            self.keep_in -= 1;
            if self.keep_in == 0 {
                self.kept = Some(self.content.clone());
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, is: impl FnMut(&mut State) -> bool) -> MutexGuard<'a, State> {
        self.changed.wait_timeout_while(state, Duration::from_secs(1), is).expect("nobody panics with it").0
    }

    /// Answers until the file system is unmounted.
    fn serve(&self, mut fuse: &File) {
        let mut buffer = vec![0; MAX_WRITE + BLOCK];
        loop {
            let request = match fuse.read(&mut buffer) {
                Ok(len) => Request(&buffer[..len]),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT | libc::EAGAIN)) => {
                    continue;
                }
                Err(_) => return,
            };
            if let Some(answer) = self.answer(&request) {
                let body = answer.as_ref().map_or([].as_slice(), Vec::as_slice);
                let errno = *answer.as_ref().err().unwrap_or(&0);
                let mut reply = u32::try_from(16 + body.len()).expect("it is small").to_ne_bytes().to_vec();
                reply.extend((-errno).to_ne_bytes());
                reply.extend(request.unique().to_ne_bytes());
                reply.extend(body);
                // It fails if nobody waits for the answer any more.
                let _ = fuse.write(&reply);
            }
        }
    }

    /// The body of the answer or the number of an error; some requests have none.
    fn answer(&self, request: &Request<'_>) -> Option<Result<Vec<u8>, i32>> {
        Some(match request.opcode() {
            opcode::FORGET | opcode::INTERRUPT | opcode::BATCH_FORGET => return None,
            opcode::INIT => Ok(words(&[7, 31, 0, 1 << 5, 16 | 12 << 16, 128 << 10, 1, 32, 0, 0, 0, 0, 0, 0, 0, 0])),
            opcode::GETATTR => Ok(attributes(self.state().content.stable.len())),
            // Past the page cache of this file: a loop device has it open.
            opcode::OPEN => Ok(words(&[0, 0, 1, 0])),
            opcode::READ => Ok(self.state().content.read(request.offset(), request.size())),
            opcode::WRITE => self.write(request),
            opcode::FSYNC => self.fsync(),
            opcode::RELEASE | opcode::FLUSH | opcode::DESTROY => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        })
    }

    /// The state, when nothing is held.
    fn let_go(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.hold == Hold::All {
            state.holds = true;
            state = self.changed.wait(state).expect("nobody panics with it");
        }
        state
    }

    fn write(&self, request: &Request<'_>) -> Result<Vec<u8>, i32> {
        let mut state = self.let_go();
        if let Some(errno) = state.errno {
            return Err(errno);
        }
        state.content.write(request.offset(), request.data());
        state.count();
        self.changed.notify_all();
        Ok(words(&[u32::try_from(request.data().len()).expect("it is small"), 0]))
    }

    fn fsync(&self) -> Result<Vec<u8>, i32> {
        let mut state = self.let_go();
        // Before, when there is most to lose.
        state.count();
        state.content.flush();
        if state.hold == Hold::AfterFlush {
            state.hold = Hold::All;
        }
        self.changed.notify_all();
        Ok(Vec::new())
    }
}

/// A `fuse_in_header` and what follows it.
struct Request<'a>(&'a [u8]);

impl Request<'_> {
    fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..][..4].try_into().expect("these are four"))
    }

    fn long(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..][..8].try_into().expect("these are eight"))
    }

    fn opcode(&self) -> u32 {
        self.word(4)
    }

    fn unique(&self) -> u64 {
        self.long(8)
    }

    /// Of a read or a write.
    fn offset(&self) -> usize {
        usize::try_from(self.long(48)).expect("it is in memory")
    }

    fn size(&self) -> usize {
        self.word(56) as usize
    }

    /// Of a write.
    fn data(&self) -> &[u8] {
        &self.0[80..][..self.size()]
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A `fuse_attr_out` that is valid for an hour: number 1, this size, a file that its owner may read and write.
fn attributes(len: usize) -> Vec<u8> {
    let longs = [3600, 0, 1, len as u64, len as u64 / 512, 0, 0, 0];
    let mut bytes: Vec<u8> = longs.iter().flat_map(|long| long.to_ne_bytes()).collect();
    bytes.extend(words(&[0, 0, 0, libc::S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0]));
    bytes
}
