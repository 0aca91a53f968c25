//! The trap: what the CPU would have done, done in a signal handler.
//!
//! ```text
//!  SIGILL: the CPU does not know the instruction          ┐                  portal  ──▶ Queue::offer, ZF
//!  SIGSEGV: it does, and the portal is mapped PROT_NONE,  ├─▶ decode at RIP ─ memory ──▶ store, or SIGSEGV
//!           or the kernel has not set it up for ENQCMD    ┘        │ none of the five
//!                                                                  └──────────▶ the program's own handler
//! ```
//!
//! Nothing here allocates, takes a lock that somebody may hold, or waits for the device. All memory that instructions
//! name is accessed by the kernel, so an address that is wrong is an answer, which becomes the SIGSEGV that the program
//! would have got.
//!
//! Source: Intel SDM volume 2, MOVDIR64B, ENQCMD, UMONITOR, UMWAIT, TPAUSE; signal-safety(7).
#![expect(unsafe_code, reason = "handles signals, and changes the registers of who was interrupted")]

use std::mem;
use std::ptr;

use libc::{c_int, c_void, greg_t, siginfo_t, ucontext_t};
use memring::dsa::Descriptor;
use memring::dsa::model::{Access, Instruction as By, Reply};

use crate::instruction::{Instruction, Kind, LONGEST, Registers, Segment};
use crate::{actions, emulation, layout, process, real};

const ZERO_FLAG: greg_t = 1 << 6;
/// CF, PF, AF, ZF, SF, OF.
const STATUS_FLAGS: greg_t = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 11;

/// General registers by their numbers in instructions, and where a context has them.
const GENERAL: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// The registers of who was interrupted.
struct Interrupted<'a>(&'a mut [greg_t; 23]);

impl Interrupted<'_> {
    fn register(&mut self, name: c_int) -> &mut greg_t {
        // The names are numbers below 23.
        &mut self.0[usize::try_from(name).unwrap_or(0)]
    }

    fn at(&self) -> u64 {
        self.0[usize::try_from(libc::REG_RIP).unwrap_or(0)].cast_unsigned()
    }

    /// Says which exception it was, as a context says it of those that the CPU has raised.
    fn set_fault(&mut self, number: greg_t, code: greg_t, address: Option<u64>) {
        *self.register(libc::REG_TRAPNO) = number;
        *self.register(libc::REG_ERR) = code;
        if let Some(address) = address {
            *self.register(libc::REG_CR2) = address.cast_signed();
        }
    }

    /// Sets these status flags, and clears the others.
    fn set_flags(&mut self, flags: greg_t) {
        let register = self.register(libc::REG_EFL);
        *register = *register & !STATUS_FLAGS | flags;
    }
}

impl Registers for Interrupted<'_> {
    fn general(&self, number: u8) -> u64 {
        let name = GENERAL[usize::from(number & 15)];
        self.0[usize::try_from(name).unwrap_or(0)].cast_unsigned()
    }

    fn base(&self, segment: Segment) -> u64 {
        const ARCH_GET_FS: c_int = 0x1003;
        const ARCH_GET_GS: c_int = 0x1004;
        let code = if segment == Segment::Fs { ARCH_GET_FS } else { ARCH_GET_GS };
        let mut base = 0_u64;
        // SAFETY: the kernel writes a word to ours. The handler runs on the thread that was interrupted.
        unsafe { libc::syscall(libc::SYS_arch_prctl, code, &raw mut base) };
        base
    }
}

/// How an instruction ends.
enum End {
    /// It was executed.
    Done,
    /// The CPU would have raised a page fault at this address.
    PageFault { address: u64, access: Access, is_mapped: bool },
    /// It would have raised a general protection exception.
    Protection,
}

impl End {
    fn page_fault(address: u64, access: Access) -> Self {
        Self::PageFault { address, access, is_mapped: process::is_mapped(address) }
    }
}

/// The handler of SIGILL and SIGSEGV. What the program's own does may unwind through it.
pub(crate) extern "C-unwind" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = real::errno();
    // SAFETY: with SA_SIGINFO the kernel passes information that lives until the handler returns.
    let is_a_fault = unsafe { (*info).si_code } > 0;
    // SAFETY: with SA_SIGINFO the kernel passes a context that is nobody else's until the handler returns.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let mut interrupted = Interrupted(registers);
    let end = if is_a_fault { execute(&mut interrupted) } else { None };
    real::set_errno(errno);
    match end {
        Some(End::Done) => {}
        Some(End::PageFault { address, access, is_mapped }) => {
            interrupted.set_fault(PAGE_FAULT, page_fault_code(is_mapped, access), Some(address));
            fault(if is_mapped { SEGV_ACCERR } else { SEGV_MAPERR }, address, context);
        }
        Some(End::Protection) => {
            interrupted.set_fault(GENERAL_PROTECTION, 0, None);
            fault(SI_KERNEL, 0, context);
        }
        // SAFETY: this is the handler of this signal, and the arguments are the kernel's.
        None => unsafe { actions::deliver(signal, info, context) },
    }
}

const SEGV_MAPERR: c_int = 1;
const SEGV_ACCERR: c_int = 2;
const SI_KERNEL: c_int = 0x80;

/// Exceptions by their numbers. Source: Intel SDM volume 3, chapter 6.
const GENERAL_PROTECTION: greg_t = 13;
const PAGE_FAULT: greg_t = 14;

/// What the CPU tells of a page fault: of user code, by a write, of a page that is there.
fn page_fault_code(is_mapped: bool, access: Access) -> greg_t {
    1 << 2 | greg_t::from(access == Access::Write) << 1 | greg_t::from(is_mapped)
}

/// Gives the program the signal that the CPU's exception would have become.
fn fault(code: c_int, address: u64, context: *mut c_void) {
    // SAFETY: it is integers.
    let mut info: siginfo_t = unsafe { mem::zeroed() };
    info.si_signo = libc::SIGSEGV;
    info.si_code = code;
    // The address comes after three integers and padding.
    let words: *mut u64 = ptr::from_mut(&mut info).cast();
    // SAFETY: the information has 128 bytes.
    let place = unsafe { words.add(2) };
    // SAFETY: as above.
    unsafe { place.write(address) };
    // SAFETY: the trap stands for the handler of this signal; the information is ours and lives until it returns.
    unsafe { actions::deliver(libc::SIGSEGV, &raw mut info, context) };
}

/// Does what the instruction at RIP does, if it is one of the five, and goes on behind it.
fn execute(interrupted: &mut Interrupted<'_>) -> Option<End> {
    let emulation = emulation::current()?;
    let at = interrupted.at();
    let mut code = [0; LONGEST];
    let readable = code_at(at, &mut code);
    let instruction = Instruction::decode(code.get(..readable)?)?;
    let end = match instruction.kind {
        Kind::Movdir64b => store(emulation, interrupted, &instruction, at, By::Movdir64b),
        Kind::Enqcmd => store(emulation, interrupted, &instruction, at, By::Enqcmd),
        Kind::Umonitor => End::Done,
        // A state has one bit.
        Kind::Umwait | Kind::Tpause if instruction.state(interrupted) > 1 => End::Protection,
        Kind::Umwait | Kind::Tpause => {
            emulation.page.add(layout::WAITED, 1);
            std::thread::yield_now();
            // It ends at once, as after a store to what is watched. The carry would tell of the system's time limit.
            interrupted.set_flags(0);
            End::Done
        }
    };
    if let End::Done = end {
        *interrupted.register(libc::REG_RIP) += greg_t::from(instruction.len);
    }
    Some(end)
}

/// How many bytes of code can be read from there on, at most as many as an instruction has.
fn code_at(at: u64, code: &mut [u8; LONGEST]) -> usize {
    let whole = process::read_some(at, code);
    if whole > 0 {
        return whole;
    }
    // The next page may be missing.
    let left = usize::try_from(process::PAGE - at % process::PAGE).unwrap_or(LONGEST).min(LONGEST);
    process::read_some(at, code.split_at_mut(left).0)
}

fn store(
    emulation: &emulation::Emulation,
    interrupted: &mut Interrupted<'_>,
    instruction: &Instruction,
    at: u64,
    by: By,
) -> End {
    let to = instruction.destination(interrupted);
    let from = instruction.source(interrupted, at).unwrap_or(0);
    if !to.is_multiple_of(Descriptor::BYTES as u64) {
        return End::Protection;
    }
    let mut bytes = [0; Descriptor::BYTES];
    if !process::read(from, &mut bytes) {
        return End::page_fault(process::unreadable(from), Access::Read);
    }
    // The CPU puts the process's address space there, and wants the place free.
    if by == By::Enqcmd && bytes[..4] != [0; 4] {
        return End::Protection;
    }
    let reply = match (emulation.portal(to), by) {
        (Some(queue), _) => queue.offer(by, &bytes),
        // Ordinary memory: a store like any other.
        (None, By::Movdir64b) => {
            // SAFETY: it is the program that writes there, by this instruction.
            if !unsafe { process::write(to, &bytes) } {
                return End::page_fault(to, Access::Write);
            }
            Reply::Dropped
        }
        (None, By::Enqcmd) if !process::read(to, &mut [0]) => return End::page_fault(to, Access::Write),
        // No device answers.
        (None, By::Enqcmd) => Reply::Retry,
    };
    if by == By::Enqcmd {
        interrupted.set_flags(if reply == Reply::Accepted { 0 } else { ZERO_FLAG });
    }
    let word = if by == By::Enqcmd { layout::BY_ENQCMD } else { layout::BY_MOVDIR64B };
    if reply == Reply::Accepted {
        emulation.page.add(word, 1);
    }
    End::Done
}
