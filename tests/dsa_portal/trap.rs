//! A CPU that has MOVDIR64B and ENQCMD: a signal handler does what they do, and notes each.
//!
//! On CPUs without them they raise SIGILL. On any CPU a process can be *stepped*: with the trap flag set, SIGTRAP comes
//! before each next instruction, so that also fences and pauses are seen, and nothing is left to the CPU.
//!
//! What is noted goes through a pipe, since a handler may not allocate: a letter, the address in RAX, and 64 bytes.
//!
//! Source: Intel SDM volume 2, MOVDIR64B, ENQCMD; signal-safety(7).
#![expect(unsafe_code, reason = "handles signals, and does the work of instructions")]
#![expect(clippy::disallowed_types, reason = "what a signal handler knows")]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::fs::File;
use std::io::{ErrorKind, Read, pipe};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use libc::{c_int, c_void, siginfo_t, ucontext_t};
use memring::dsa::Descriptor;

use super::child::in_child;
use super::skip::skip;

const MOVDIR64B: [u8; 5] = [0x66, 0x0f, 0x38, 0xf8, 0x02];
const ENQCMD: [u8; 5] = [0xf2, 0x0f, 0x38, 0xf8, 0x02];
const SFENCE: [u8; 3] = [0x0f, 0xae, 0xf8];
const PAUSE: [u8; 2] = [0xf3, 0x90];
/// Not an instruction of a program, but the test's word to the handler: begin to step, or end it.
const UD2: [u8; 2] = [0x0f, 0x0b];
const TRAP_FLAG: i64 = 1 << 8;
const ZERO_FLAG: i64 = 1 << 6;

/// Where notes go.
static NOTES: AtomicI32 = AtomicI32::new(-1);
/// A shared queue accepts as many as this, then refuses as many as that, then accepts all.
static ACCEPTS: AtomicU64 = AtomicU64::new(u64::MAX);
static REFUSES: AtomicU64 = AtomicU64::new(0);

/// What the CPU was seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// MOVDIR64B: the address, and what was stored there.
    Stored(usize, [u8; 64]),
    /// ENQCMD, and the queue took it.
    Enqueued(usize, [u8; 64]),
    /// ENQCMD, and the queue was full.
    Refused,
    /// SFENCE; only when stepped.
    Fenced,
    /// PAUSE; only when stepped.
    Paused,
}

impl Note {
    pub(crate) fn bytes(self) -> Option<[u8; 64]> {
        match self {
            Self::Stored(_, bytes) | Self::Enqueued(_, bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn letter(self) -> char {
        match self {
            Self::Stored(..) => 'M',
            Self::Enqueued(..) => 'E',
            Self::Refused => 'R',
            Self::Fenced => 'S',
            Self::Paused => 'P',
        }
    }
}

/// Reads what has happened since it was last asked.
pub(crate) struct Notes(File);

impl Notes {
    pub(crate) fn take(&mut self) -> Vec<Note> {
        let mut bytes = Vec::new();
        let end = self.0.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::WouldBlock, "{end}");
        let note = |note: &[u8]| {
            let address = usize::from_ne_bytes(note[1..9].try_into().unwrap());
            let stored = note[9..].try_into().unwrap();
            match note[0] {
                b'M' => Note::Stored(address, stored),
                b'E' => Note::Enqueued(address, stored),
                b'R' => Note::Refused,
                b'S' => Note::Fenced,
                b'P' => Note::Paused,
                other => panic!("the portal's address is wrong: {}, {address:#x}", char::from(other)),
            }
        };
        bytes.chunks(73).map(note).collect()
    }

    pub(crate) fn letters(&mut self) -> String {
        self.take().into_iter().map(Note::letter).collect()
    }
}

/// Runs it in a child with the handler, on a CPU that knows neither instruction by itself.
pub(crate) fn trapped(body: impl FnOnce(&mut Notes)) {
    if __cpuid_count(7, 0).ecx & (3 << 28) != 0 {
        return skip("CPU to trap", "this one has MOVDIR64B or ENQCMD, so they would be executed");
    }
    in_child(|| body(&mut install()));
}

/// Runs it in a child with the handler, which sees every instruction inside [`stepping`].
pub(crate) fn stepped(body: impl FnOnce(&mut Notes)) {
    in_child(|| body(&mut install()));
}

/// Sees every instruction of this.
pub(crate) fn stepping<R>(body: impl FnOnce() -> R) -> R {
    let toggle = || {
        // SAFETY: the handler changes the trap flag, and goes on behind the instruction.
        unsafe { asm!("ud2") };
    };
    toggle();
    let result = body();
    toggle();
    result
}

/// A shared queue that has room for `accepts`, then none for `refuses` attempts.
pub(crate) fn script(accepts: u64, refuses: u64) {
    ACCEPTS.store(accepts, Ordering::Relaxed);
    REFUSES.store(refuses, Ordering::Relaxed);
}

fn install() -> Notes {
    let (reader, writer) = pipe().unwrap();
    let reader = OwnedFd::from(reader);
    // SAFETY: it takes numbers, and the descriptor is ours.
    assert_eq!(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
    NOTES.store(OwnedFd::from(writer).into_raw_fd(), Ordering::Relaxed);
    for signal in [libc::SIGILL, libc::SIGTRAP] {
        // SAFETY: all its fields are integers, or an optional function.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and does only what is async-signal-safe.
        assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);
    }
    Notes(File::from(reader))
}

fn note(letter: u8, address: i64, bytes: &[u8; 64]) {
    let mut note = [0; 73];
    note[0] = letter;
    note[1..9].copy_from_slice(&address.to_ne_bytes());
    note[9..].copy_from_slice(bytes);
    // SAFETY: the kernel reads the note, which lives until it returns.
    let written = unsafe { libc::write(NOTES.load(Ordering::Relaxed), note.as_ptr().cast(), note.len()) };
    if written != 73 {
        // SAFETY: it ends the process; no test makes more notes than a pipe holds.
        unsafe { libc::abort() };
    }
}

/// Takes one of a counter, if there is one left.
fn take_one(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

extern "C" fn on_signal(signal: c_int, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a context that is nobody else's until the handler returns.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let [at, portal, source] = [libc::REG_RIP, libc::REG_RAX, libc::REG_RDX].map(|name| registers[name as usize]);
    // SAFETY: the code of this program is readable, and its last instruction is none of these.
    let code: [u8; 5] = unsafe { ptr::read_unaligned(at as *const [u8; 5]) };
    let flags = &mut registers[libc::REG_EFL as usize];
    let mut skipped = 5;
    match code {
        MOVDIR64B => {
            let bytes = stored(source);
            if portal % 64 != 0 {
                note(b'X', portal, &bytes);
            } else {
                // SAFETY: where MOVDIR64B would have stored, by the contract of who executes it.
                unsafe { ptr::write_unaligned(portal as *mut [u8; 64], bytes) };
                note(b'M', portal, &bytes);
            }
        }
        ENQCMD => {
            let bytes = stored(source);
            let is_accepted = take_one(&ACCEPTS) || !take_one(&REFUSES);
            *flags = if is_accepted { *flags & !ZERO_FLAG } else { *flags | ZERO_FLAG };
            // The CPU puts the process's address space there, and faults if anything is there already.
            let is_right = portal % 64 == 0 && bytes[..4] == [0; 4];
            let letter = if is_accepted { b'E' } else { b'R' };
            note(if is_right { letter } else { b'X' }, portal, &bytes);
        }
        _ if signal == libc::SIGILL && code[..2] == UD2 => {
            *flags ^= TRAP_FLAG;
            skipped = 2;
        }
        _ if signal == libc::SIGILL => {
            // SAFETY: it ends the process.
            unsafe { libc::abort() };
        }
        _ => {
            skipped = 0;
            if code[..3] == SFENCE {
                note(b'S', 0, &[0; 64]);
            } else if code[..2] == PAUSE {
                note(b'P', 0, &[0; 64]);
            }
        }
    }
    registers[libc::REG_RIP as usize] = at + skipped;
}

/// What the instruction reads.
fn stored(source: i64) -> [u8; 64] {
    // SAFETY: RDX has the address of a descriptor, which the submitter has lent.
    unsafe { ptr::read(source as *const Descriptor) }.to_bytes()
}
