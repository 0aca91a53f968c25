//! The library that `memring emulate` preloads into programs, so that they find an Intel DSA that is not there.
//!
//! A program maps a portal or opens the device file, executes MOVDIR64B or ENQCMD, and polls a completion record. Here
//! the instructions are trapped, and memring's strict model ([`memring::dsa::model`]) does what a device would have
//! done.
//!
//! ```text
//!  program ── MOVDIR64B, ENQCMD ──▶ SIGILL or SIGSEGV ──▶ trap ──┐
//!     │                                                          ├─▶ queue ──▶ device thread ──▶ model
//!     └── open, mmap, write, close ──▶ interposed ──▶ node ──────┘                                │
//!     ◀──────────────── data, and completion records with the status last ────────────────────────┘
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `interposed`, `signals`, `real` | functions of the C library's names, and those behind them |
//! | `node` | the device file, as Linux's driver answers for it |
//! | `trap`, `instruction` | the handler that does what instructions do, and the decoder |
//! | `actions` | the program's own handlers of the two signals |
//! | `emulation` | what there is once in a process; forks |
//! | `queue`, `futex` | a work queue: what is taken, refused, dropped |
//! | `device`, `memory`, `faults`, `process` | the thread that executes, and the memory it reaches |
//! | `page`, `layout` | what all processes of an emulation share |
//! | `settings`, `trace` | what the command wants, and what is told |
//!
//! # Safety
//!
//! A device reads and writes by the addresses in descriptors, and whoever submits vouches for them: that is so on
//! hardware, and so it is here.
//!
//! # What it does not do
//!
//! Programs without a dynamic linker, and system calls made without the C library, are out of its reach. The wait
//! instructions return at once. A page that nobody has touched yet is mapped and not reported, as by a device that
//! waits for pages; page faults are made up instead, or come from what is not mapped at all.
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#![expect(unsafe_code, reason = "is called when the library is loaded")]

mod actions;
mod device;
mod emulation;
mod faults;
mod futex;
mod instruction;
pub mod interposed;
mod layout;
mod memory;
mod node;
mod page;
mod process;
mod queue;
mod real;
mod settings;
pub mod signals;
mod trace;
mod trap;

/// Called by the dynamic linker, before the program.
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;

/// Called when the program ends in an orderly way.
#[used]
#[unsafe(link_section = ".fini_array")]
static ENDED: extern "C" fn() = trace::end;

extern "C" fn loaded() {
    load();
}

/// Makes all that there is, once. Libraries of the program are loaded before this one is: if one of them uses the
/// device while it is loaded, this comes from its first [`open`](interposed::open).
fn load() {
    if !emulation::is_first() {
        return;
    }
    let Some(settings) = settings::Settings::from_env() else { return };
    real::remember_stderr(settings.is_traced);
    if !emulation::make(settings) {
        return;
    }
    actions::take();
    let (before, parent, child) = (interposed::forks, interposed::has_forked, interposed::forked);
    // SAFETY: the functions are there as long as the process.
    unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
}
