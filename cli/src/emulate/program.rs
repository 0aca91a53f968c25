//! The program that is to run: where it is, and whether a library can be preloaded into it.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::failure::Failure;

/// Scripts that are run by scripts end somewhere.
const MOST_INTERPRETERS: usize = 4;

/// Finds a program as a shell does, and looks whether the dynamic linker of this machine loads it.
pub(super) fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    let path = if name.as_bytes().contains(&b'/') { Some(PathBuf::from(name)) } else { in_path(name) };
    let path = path.ok_or_else(|| Failure::new(format!("{name:?} is not in PATH")))?;
    let mut loaded = path.clone();
    for _ in 0..MOST_INTERPRETERS {
        let cannot_open = |error| Failure::system("open", &loaded, error);
        // What is no file might have to be waited for.
        let is_file = fs::metadata(&loaded).map_err(cannot_open)?.is_file();
        let kind = if is_file { Kind::of(&File::open(&loaded).map_err(cannot_open)?) } else { Ok(Kind::Other) };
        let kind = kind.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::file(&loaded, "is cut off"),
            _ => Failure::system("read", &loaded, error),
        })?;
        match kind {
            Kind::Script(interpreter) => loaded = interpreter,
            // It has no linker, since it is the linker: what it is to load is the program.
            Kind::Static if is_linker(&loaded) => return Ok(path),
            Kind::Static => {
                return Err(Failure::file(&loaded, "is linked statically, so nothing can be preloaded into it"));
            }
            Kind::Loaded(linker) if linker.file_name() == Some(OsStr::new(LINKER)) => return Ok(path),
            Kind::Loaded(linker) => {
                return Err(Failure::file(
                    &loaded,
                    &format!("is loaded by {linker:?}, and the library is for {LINKER}"),
                ));
            }
            Kind::Foreign => return Err(Failure::file(&loaded, "is no program for x86-64")),
            Kind::Other => return Err(Failure::file(&loaded, "is neither a program nor a script")),
        }
    }
    Err(Failure::file(&path, "is a script of a script of a script"))
}

fn is_linker(path: &Path) -> bool {
    let is_named_so = |path: &Path| path.file_name() == Some(OsStr::new(LINKER));
    is_named_so(path) || path.canonicalize().is_ok_and(|path| is_named_so(&path))
}

fn in_path(name: &OsStr) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut candidates = env::split_paths(&folders).map(|folder| folder.join(name));
    candidates.find(|path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok())
}

/// Where programs are looked for without PATH. Source: execvp(3), confstr(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// The dynamic linker of the GNU C library, which the library that is preloaded was made for.
const LINKER: &str = "ld-linux-x86-64.so.2";
/// Of a dynamic linker's path, bytes.
const LONGEST_NAME: usize = 4096;

/// What a file is to the kernel.
enum Kind {
    /// By this dynamic linker.
    Loaded(PathBuf),
    Static,
    /// For another processor, or of 32 bits.
    Foreign,
    Script(PathBuf),
    Other,
}

impl Kind {
    /// Source: the System V ABI, chapters 4 and 5; execve(2).
    fn of(file: &File) -> io::Result<Self> {
        const CLASS_64: u8 = 2;
        const X86_64: [u8; 2] = 62_u16.to_le_bytes();
        const INTERPRETER: [u8; 4] = 3_u32.to_le_bytes();
        let mut header = Vec::new();
        file.take(256).read_to_end(&mut header)?;
        if let Some(line) = header.strip_prefix(b"#!") {
            // A line that ends as in DOS names another interpreter.
            let mut words =
                line.split(|byte| *byte == b'\n').next().unwrap_or_default().split(|byte| b" \t".contains(byte));
            let interpreter = words.find(|word| !word.is_empty());
            return Ok(interpreter.map_or(Self::Other, |name| Self::Script(OsStr::from_bytes(name).into())));
        }
        if !header.starts_with(b"\x7fELF") {
            return Ok(Self::Other);
        }
        if header.get(4) != Some(&CLASS_64) || header.get(18..20) != Some(&X86_64) {
            return Ok(Self::Foreign);
        }
        let number = |at: usize, len: usize| {
            let bytes = header.get(at..at + len).unwrap_or_default();
            bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        for entry in 0..count {
            let mut entry_bytes = [0; 56];
            file.read_exact_at(&mut entry_bytes, table.saturating_add(entry * size))?;
            if entry_bytes.starts_with(&INTERPRETER) {
                let place = |at: usize| {
                    entry_bytes[at..].as_chunks::<8>().0.first().map_or(0, |word| u64::from_le_bytes(*word))
                };
                let mut name = vec![0; usize::try_from(place(32)).unwrap_or(0).min(LONGEST_NAME)];
                file.read_exact_at(&mut name, place(8))?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                return Ok(Self::Loaded(PathBuf::from(OsStr::from_bytes(name))));
            }
        }
        Ok(Self::Static)
    }
}
