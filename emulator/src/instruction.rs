//! Decoding: which of the five instructions stands at an address, and what it names.
//!
//! Pure functions from bytes and registers, so that they are tested without a signal. What an assembler or a compiler
//! may write is decoded: any register, any form of ModRM and SIB, displacements of 8 and 32 bits, addresses relative to
//! the next instruction, REX, segments, the address-size prefix.
//!
//! | instruction | bytes | names |
//! |---|---|---|
//! | MOVDIR64B r, m | 66 0F 38 F8 /r | the portal in a register, 64 bytes of memory |
//! | ENQCMD r, m | F2 0F 38 F8 /r | the same |
//! | UMONITOR r | F3 0F AE /6, mod 3 | an address |
//! | UMWAIT r | F2 0F AE /6, mod 3 | a state; the deadline is in EDX:EAX |
//! | TPAUSE r | 66 0F AE /6, mod 3 | the same |
//!
//! Source: Intel SDM volume 2, chapter 2 and the instructions' own pages.

/// The longest instruction, bytes.
pub(crate) const LONGEST: usize = 15;

/// Which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Stores 64 bytes in one transaction.
    Movdir64b,
    /// Stores 64 bytes, and says in ZF whether they were not taken.
    Enqcmd,
    /// Watches an address.
    Umonitor,
    /// Waits for what is watched.
    Umwait,
    /// Waits.
    Tpause,
}

/// An instruction, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Which it is.
    pub(crate) kind: Kind,
    /// How long it is, bytes.
    pub(crate) len: u8,
    /// The register that it names, by its number in encodings; of a store, the one with the destination.
    register: u8,
    /// What it reads, if it reads memory.
    source: Option<Operand>,
    /// The address-size prefix: addresses have 32 bits.
    is_short: bool,
}

/// Memory, as an instruction names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operand {
    base: Base,
    index: Option<(u8, u8)>,
    displacement: i32,
    segment: Option<Segment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    None,
    Register(u8),
    NextInstruction,
}

/// The segments that have a base in 64-bit mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// The thread's own memory, on Linux.
    Fs,
    /// Whatever the program has put there.
    Gs,
}

/// What registers hold.
pub(crate) trait Registers {
    /// The general register of this number: RAX 0, RCX 1, RDX 2, RBX 3, RSP 4, RBP 5, RSI 6, RDI 7, R8 and so on.
    fn general(&self, number: u8) -> u64;
    /// The base of a segment.
    fn base(&self, segment: Segment) -> u64;
}

impl Instruction {
    /// The one that these bytes begin with, if it is one of the five.
    pub(crate) fn decode(code: &[u8]) -> Option<Self> {
        let mut bytes = Bytes { code: code.get(..LONGEST).unwrap_or(code), at: 0 };
        let mut prefixes = Prefixes::default();
        let first = loop {
            let byte = bytes.next()?;
            if !prefixes.take(byte) {
                break byte;
            }
        };
        let (rex, first) = if first & 0xf0 == 0x40 { (first, bytes.next()?) } else { (0, first) };
        if first != 0x0f {
            return None;
        }
        let kind = match (bytes.next()?, prefixes.mandatory()) {
            (0x38, mandatory) => match (bytes.next()?, mandatory) {
                (0xf8, 0x66) => Kind::Movdir64b,
                (0xf8, 0xf2) => Kind::Enqcmd,
                _ => return None,
            },
            (0xae, 0xf3) => Kind::Umonitor,
            (0xae, 0xf2) => Kind::Umwait,
            (0xae, 0x66) => Kind::Tpause,
            _ => return None,
        };
        let modrm = ModRm(bytes.next()?);
        let (register, source) = match kind {
            Kind::Movdir64b | Kind::Enqcmd if modrm.mode() == 3 => return None,
            Kind::Movdir64b | Kind::Enqcmd => {
                (modrm.register() | (rex & 4) << 1, Some(bytes.operand(modrm, rex, prefixes.segment)?))
            }
            _ if modrm.mode() != 3 || modrm.register() != 6 => return None,
            _ => (modrm.memory() | (rex & 1) << 3, None),
        };
        let len = u8::try_from(bytes.at).ok()?;
        Some(Self { kind, len, register, source, is_short: prefixes.is_short })
    }

    /// Where a store goes, or what is watched.
    pub(crate) fn destination(&self, registers: &impl Registers) -> u64 {
        self.fit(registers.general(self.register))
    }

    /// What the register of 32 bits holds that a wait names.
    pub(crate) fn state(&self, registers: &impl Registers) -> u64 {
        registers.general(self.register) & u64::from(u32::MAX)
    }

    /// Where a store comes from, if it is one; `at` is the instruction's own address.
    pub(crate) fn source(&self, registers: &impl Registers, at: u64) -> Option<u64> {
        let Operand { base, index, displacement, segment } = self.source?;
        let base = match base {
            Base::None => 0,
            Base::Register(number) => registers.general(number),
            Base::NextInstruction => at.wrapping_add(self.len.into()),
        };
        let index = index.map_or(0, |(number, scale)| registers.general(number) << scale);
        let offset = base.wrapping_add(index).wrapping_add_signed(displacement.into());
        Some(self.fit(offset).wrapping_add(segment.map_or(0, |segment| registers.base(segment))))
    }

    fn fit(&self, address: u64) -> u64 {
        if self.is_short { address & u64::from(u32::MAX) } else { address }
    }
}

/// The prefixes that came before the opcode, but for REX.
#[derive(Clone, Copy, Debug, Default)]
struct Prefixes {
    has_66: bool,
    repeat: Option<u8>,
    segment: Option<Segment>,
    is_short: bool,
}

impl Prefixes {
    fn take(&mut self, byte: u8) -> bool {
        match byte {
            0x66 => self.has_66 = true,
            0x67 => self.is_short = true,
            0xf2 | 0xf3 => self.repeat = Some(byte),
            0x64 => self.segment = Some(Segment::Fs),
            0x65 => self.segment = Some(Segment::Gs),
            // They mean nothing in 64-bit mode.
            0x26 | 0x2e | 0x36 | 0x3e => {}
            _ => return false,
        }
        true
    }

    /// The one that chooses between instructions of the same opcode: F2 and F3 go before 66.
    fn mandatory(self) -> u8 {
        self.repeat.unwrap_or(if self.has_66 { 0x66 } else { 0 })
    }
}

/// The byte that names a register, and a register or memory.
#[derive(Clone, Copy, Debug)]
struct ModRm(u8);

impl ModRm {
    fn mode(self) -> u8 {
        self.0 >> 6
    }

    fn register(self) -> u8 {
        self.0 >> 3 & 7
    }

    fn memory(self) -> u8 {
        self.0 & 7
    }
}

/// The bytes that are left.
struct Bytes<'a> {
    code: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.code.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn operand(&mut self, modrm: ModRm, rex: u8, segment: Option<Segment>) -> Option<Operand> {
        let high_base = (rex & 1) << 3;
        let (base, index) = match (modrm.mode(), modrm.memory()) {
            (mode, 4) => {
                let sib = self.next()?;
                let number = sib >> 3 & 7 | (rex & 2) << 2;
                // RSP is no index.
                let index = (number != 4).then_some((number, sib >> 6));
                let has_base = !(mode == 0 && sib & 7 == 5);
                (if has_base { Base::Register(sib & 7 | high_base) } else { Base::None }, index)
            }
            (0, 5) => (Base::NextInstruction, None),
            (_, number) => (Base::Register(number | high_base), None),
        };
        let is_long = modrm.mode() == 2 || (modrm.mode() == 0 && !matches!(base, Base::Register(_)));
        let displacement = match modrm.mode() {
            _ if is_long => i32::from_le_bytes([self.next()?, self.next()?, self.next()?, self.next()?]),
            1 => i32::from(self.next()?.cast_signed()),
            _ => 0,
        };
        Some(Operand { base, index, displacement, segment })
    }
}
