//! Traces: a line for each descriptor and each completion record, decoded, on stderr.
//!
//! ```text
//! wq0.0: MEMMOVE, 4096 bytes from 0x55d0c7a3b000 to 0x55d0c7a3d000, flags CRAV RCR, record 0x55d0c7a3a040
//! wq0.0: record 0x55d0c7a3a040: PAGE_FAULT | WRITE (0x83), result 0, 2048 bytes completed, fault at 0x55d0c7a3d000
//! ```
//!
//! Descriptors are told when the device gets them, in the order in which they came; the members of a batch follow it. A
//! record is told just before it is written, with what its operation and its status define, and nothing else. Each line
//! is written at once, so that those of several processes do not mix.
//!
//! The last line of a process says how much was not done when it ended, if it ends by `exit` or a fatal fault.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write as _};

use memring::dsa::{Descriptor, DsaOpcode, Flags, Operation, RecordStatus, RecordView};

use crate::emulation::current;
use crate::{actions, process, real};

/// The flags that mean the same in every operation, by the names that the specification's tables have.
const FLAGS: [(Flags, &str); 15] = [
    (Flags::FENCE, "Fence"),
    (Flags::BLOCK_ON_FAULT, "BOF"),
    (Flags::RECORD_ADDRESS_VALID, "CRAV"),
    (Flags::REQUEST_COMPLETION_RECORD, "RCR"),
    (Flags::REQUEST_COMPLETION_INTERRUPT, "RCI"),
    (Flags::CACHE_CONTROL_3, "CC3"),
    (Flags::CHECK_RESULT, "CheckResult"),
    (Flags::CACHE_CONTROL, "CC"),
    (Flags::ADDRESS_1_TRAFFIC_CLASS, "TC1"),
    (Flags::ADDRESS_2_TRAFFIC_CLASS, "TC2"),
    (Flags::ADDRESS_3_TRAFFIC_CLASS, "TC3"),
    (Flags::RECORD_TRAFFIC_CLASS, "TCR"),
    (Flags::STRICT_ORDERING, "SO"),
    (Flags::DESTINATION_READBACK, "DR"),
    (Flags::DESTINATION_STEERING_TAG, "ST"),
];

/// More members of a batch than this are not read: its count may be anything.
const MOST_MEMBERS: u32 = 1 << 10;

/// More records than this are not expected at a time: what is due by then has ended without one.
const MOST_EXPECTED: usize = 1 << 16;

thread_local! {
    /// What the device's thread was told of and has had no record yet, by the record's address.
    static EXPECTED: RefCell<HashMap<u64, (DsaOpcode, Flags)>> = RefCell::default();
}

fn expect(descriptor: &Descriptor) {
    if descriptor.flags().contains(Flags::RECORD_ADDRESS_VALID) {
        EXPECTED.with_borrow_mut(|expected| {
            if expected.len() >= MOST_EXPECTED {
                expected.clear();
            }
            expected.insert(descriptor.record_address(), (descriptor.opcode(), descriptor.flags()));
        });
    }
}

/// Tells of a descriptor, and of a batch's members.
pub(crate) fn descriptor(queue: &str, descriptor: &Descriptor) {
    let mut text = format!("{queue}: {}\n", said(descriptor));
    expect(descriptor);
    if let Ok(Operation::Batch { list, count }) = descriptor.operation() {
        for number in 0..count.min(MOST_MEMBERS) {
            let mut bytes = [0; Descriptor::BYTES];
            if process::read(list.wrapping_add(u64::from(number) * Descriptor::BYTES as u64), &mut bytes) {
                let member = Descriptor::from_bytes(&bytes);
                expect(&member);
                let _ = writeln!(text, "{queue}:   {number}: {}", said(&member));
            }
        }
        if let Some(more @ 1..) = count.checked_sub(MOST_MEMBERS) {
            let _ = writeln!(text, "{queue}:   ... and {more} more");
        }
    }
    tell(&text);
}

/// Tells of a record.
pub(crate) fn record(queue: &str, address: u64, record: &RecordView) {
    let status = record.status();
    let mut text = format!("{queue}: record {address:#x}: {status:?} ({:#04x})", status.to_u8());
    if let Some(flags) = record.invalid_flags() {
        let _ = write!(text, ", flags {}", names(flags));
    }
    let of = EXPECTED.with_borrow_mut(|expected| expected.remove(&address));
    text += &defined(of, record);
    if let Some(fault) = record.fault() {
        let _ = write!(text, ", fault at {:#x}", fault.address);
    }
    text.push('\n');
    tell(&text);
}

/// What this record of this opcode, with these flags, defines beside its status.
///
/// Source: the specification's chapter 8; of what has failed, only the status and the flags.
fn defined(of: Option<(DsaOpcode, Flags)>, record: &RecordView) -> String {
    let status = record.status();
    let is_stopped = status.is_resumable();
    if !(status.is_success() || is_stopped || status.code() == RecordStatus::BATCH_FAILED) {
        return String::new();
    }
    let (result, sum) = (record.result(), record.crc64());
    let done = format!(", {} bytes completed", record.bytes_completed());
    let Some((opcode, flags)) = of else {
        // Nobody knows what was asked for: one of the members that are not read.
        return format!(", result {result}{done}, at 16: {sum:#x}");
    };
    match opcode {
        DsaOpcode::NOP | DsaOpcode::DRAIN => String::new(),
        DsaOpcode::BATCH => format!(", {} descriptors completed", record.descriptors_completed()),
        DsaOpcode::COMPARE | DsaOpcode::COMPVAL => format!(", result {result}{done}"),
        // Which end it began with.
        DsaOpcode::MEMMOVE if is_stopped => format!(", result {result}{done}"),
        DsaOpcode::CR_DELTA => format!(", result {result}{done}, delta record of {}", record.delta_record_len()),
        DsaOpcode::CRCGEN | DsaOpcode::COPY_CRC if flags.contains(Flags::CRC_64) => format!("{done}, sum {sum:#x}"),
        DsaOpcode::CRCGEN | DsaOpcode::COPY_CRC => format!("{done}, sum {:#x}", record.crc32()),
        _ => done,
    }
}

/// Tells of what is not done when the process ends. Async-signal-safe.
pub(crate) extern "C" fn end() {
    let Some(emulation) = current().filter(|emulation| emulation.settings.is_traced && !emulation.is_inherited())
    else {
        return;
    };
    for queue in &emulation.queues {
        let count = queue.outstanding();
        if count == 0 {
            continue;
        }
        let mut line = Line { bytes: [0; 128], len: 0 };
        let noun = if count == 1 { "descriptor was" } else { "descriptors were" };
        let name = &queue.identity.name;
        // A name that is too long is cut off.
        let _ = writeln!(line, "{name}: {count} {noun} not done when the program ended");
        // Nobody may read it any more.
        actions::undisturbed(|| real::to_stderr(line.bytes.get(..line.len).unwrap_or_default()));
    }
}

/// A line of text that is put together where nothing may be allocated.
struct Line {
    bytes: [u8; 128],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.bytes.get_mut(self.len..).and_then(|left| left.get_mut(..text.len())).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Writes a text to stderr, all at once, and whatever comes of it.
pub(crate) fn tell(text: &str) {
    // Not by std's handle: in a forked child its lock may be held by a thread that is not there.
    real::to_stderr(text.as_bytes());
}

fn said(descriptor: &Descriptor) -> String {
    let what = match descriptor.operation() {
        Ok(operation) => operands(&operation),
        Err(_) => String::new(),
    };
    let mut text = format!("{:?}{what}, flags {}", descriptor.opcode(), names(descriptor.flags()));
    if descriptor.flags().contains(Flags::RECORD_ADDRESS_VALID) {
        let _ = write!(text, ", record {:#x}", descriptor.record_address());
    }
    text
}

fn names(flags: Flags) -> String {
    let mut names: Vec<String> =
        FLAGS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| (*name).to_owned()).collect();
    let others = FLAGS.iter().fold(flags, |left, (flag, _)| left.without(*flag)).bits();
    if others != 0 {
        names.push(format!("{others:#x}"));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

fn operands(operation: &Operation) -> String {
    match *operation {
        Operation::Batch { list, count } => format!(" of {count} at {list:#x}"),
        Operation::Memmove { src, dst, len } => format!(", {len} bytes from {src:#x} to {dst:#x}"),
        Operation::Fill { pattern, dst, len, .. } => format!(", {len} bytes at {dst:#x} with {pattern:#018x}"),
        Operation::Compare { src_1, src_2, len, .. } => format!(", {len} bytes at {src_1:#x} and {src_2:#x}"),
        Operation::CompareValue { src, pattern, len, .. } => format!(", {len} bytes at {src:#x} and {pattern:#018x}"),
        Operation::CreateDelta { src_1, src_2, len, record, max_record_len, .. } => {
            format!(", {len} bytes at {src_1:#x} and {src_2:#x}, at most {max_record_len} to {record:#x}")
        }
        Operation::ApplyDelta { record, dst, len, record_len } => {
            format!(", {record_len} bytes at {record:#x} to {len} bytes at {dst:#x}")
        }
        Operation::Dualcast { src, dst_1, dst_2, len } => {
            format!(", {len} bytes from {src:#x} to {dst_1:#x} and {dst_2:#x}")
        }
        Operation::Crc { src, len, seed, .. } => format!(", {len} bytes at {src:#x}, seed {seed:#x}"),
        Operation::CopyCrc { src, dst, len, seed, .. } => {
            format!(", {len} bytes from {src:#x} to {dst:#x}, seed {seed:#x}")
        }
        Operation::CacheFlush { address, len } | Operation::TranslationFetch { address, len, .. } => {
            format!(", {len} bytes at {address:#x}")
        }
        _ if operation.opcode() == DsaOpcode::NOP || operation.opcode() == DsaOpcode::DRAIN => String::new(),
        _ => format!(" {operation:x?}"),
    }
}
