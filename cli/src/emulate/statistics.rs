//! What a program used, as the library counted it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use memring::dsa::{DsaOpcode, RecordStatus};

use super::layout;
use crate::failure::Failure;

/// Some lines for a person.
pub(super) fn of(page: &Path) -> Result<String, Failure> {
    let bytes = fs::read(page).map_err(|error| Failure::system("read", page, error))?;
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect();
    let word = |at: usize| words.get(at).copied().unwrap_or(0);
    let mut text = format!(
        "memring: emulate: {} descriptors: {} by ENQCMD, {} by MOVDIR64B, {} by write\n",
        word(layout::ACCEPTED),
        word(layout::BY_ENQCMD),
        word(layout::BY_MOVDIR64B),
        word(layout::BY_WRITE),
    );
    let facts = [
        ("times opened", layout::OPENED),
        ("portals mapped", layout::MAPPED),
        ("refusals (ZF = 1)", layout::RETRIED),
        ("dropped without a word", layout::DROPPED),
        ("failed without a record", layout::UNREPORTED),
        ("UMWAIT or TPAUSE", layout::WAITED),
        ("records", layout::RECORDS),
    ];
    for (name, at) in facts.into_iter().filter(|(_, at)| word(*at) > 0) {
        let _ = writeln!(text, "  {:>9} {name}", word(at));
    }
    for opcode in 0..=u8::MAX {
        let count = word(layout::OPCODES + usize::from(opcode));
        if count > 0 {
            let _ = writeln!(text, "  {count:>9} {:?}", DsaOpcode::from_u8(opcode));
        }
    }
    for code in 0..=u8::MAX {
        let count =
            if usize::from(code) < layout::STATUS_COUNT { word(layout::STATUSES + usize::from(code)) } else { 0 };
        if count > 0 {
            let status = RecordStatus::from_u8(code);
            let _ = writeln!(text, "  {count:>9} {status:?} ({code:#04x})");
        }
    }
    if word(layout::DISABLED) != 0 {
        text.push_str("  the queue was taken away\n");
    }
    Ok(text)
}
