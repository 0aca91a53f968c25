//! File systems of a test's own: in a mount namespace that nobody else sees, and that takes all with it when it ends.
#![expect(unsafe_code, reason = "unshare has no safe wrapper")]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

/// Runs `body` on a thread that has a mount namespace of its own, as have all that it starts. `Err` says why there can
/// be none. However the thread or the process ends, the kernel then unmounts what was mounted.
pub(crate) fn in_own_namespace<R: Send>(body: impl FnOnce() -> R + Send) -> Result<R, String> {
    thread::scope(|threads| {
        let thread = threads.spawn(|| {
            // SAFETY: it takes a number; the mount table and the current folder of this thread become its own.
            if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
                return Err(format!("unshare: {}", io::Error::last_os_error()));
            }
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).map_err(|error| format!("mount: {error}"))?;
            Ok(body())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a program; `Err` is its name and what it said, or that there is none.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

/// A file system that is mounted until this is dropped.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `source` at `at`; both are there.
    pub(crate) fn new(source: &Path, at: &Path, kind: &str, options: &str) -> Result<Self, String> {
        let text = |bytes: &[u8]| CString::new(bytes).expect("no zeros inside");
        let (what, options) = (text(source.as_os_str().as_bytes()), text(options.as_bytes()));
        mount(&*what, at, &*text(kind.as_bytes()), MountFlags::empty(), &*options)
            .map_err(|error| format!("mount of {kind}: {error}"))?;
        Ok(Self(at.to_owned()))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached, it ends with the last file of it that is still open, if a test that fails has one.
        if unmount(&self.0, UnmountFlags::empty()).is_err() {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
    }
}

/// Makes an ext4 of this many MiB in the file.
pub(crate) fn make_ext4(file: &Path, mebibytes: u64, more: &[&str]) -> Result<(), String> {
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-b", "4096", "-m", "0"]).args(more).arg(file).arg(format!("{mebibytes}M"));
    run(&mut mkfs).map(drop)
}

/// Mounts the ext4 that is in the file. The loop device goes when it is unmounted.
pub(crate) fn mount_ext4(file: &Path, at: &Path, direct_io: bool) -> Result<Mounted, String> {
    let mut attach = Command::new("losetup");
    attach.args(["--find", "--show"]).arg(format!("--direct-io={}", if direct_io { "on" } else { "off" })).arg(file);
    let device = run(&mut attach)?.trim().to_owned();
    let mounted = Mounted::new(Path::new(&device), at, "ext4", "");
    // While it is mounted, this only asks that it be detached at its end.
    run(Command::new("losetup").args(["--detach", &device]))?;
    let mounted = mounted?;
    let name = device.trim_start_matches("/dev/");
    let direct = std::fs::read_to_string(format!("/sys/block/{name}/loop/dio")).map_err(|error| error.to_string())?;
    if direct.trim() == "1" || !direct_io { Ok(mounted) } else { Err(format!("{device} has no direct I/O")) }
}

/// The file of this name in an ext4 image, as it is after the replay of the journal. Changes the image.
pub(crate) fn read_from_ext4(image: &Path, name: &str) -> Result<Vec<u8>, String> {
    let output = Command::new("e2fsck").args(["-f", "-y"]).arg(image).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("e2fsck: {error}"))?;
    // 1 and 2: errors were corrected, as are the counts of free blocks after every crash.
    if output.status.code().is_none_or(|code| code >= 4) {
        return Err(format!("e2fsck: {}: {}", output.status, String::from_utf8_lossy(&output.stdout)));
    }
    let out = image.with_extension("log");
    let request = format!("dump {name} {}", out.display());
    let mut debugfs = Command::new("debugfs");
    run(debugfs.args(["-R", &request]).arg(image))?;
    let bytes = std::fs::read(&out).map_err(|error| format!("{name} is not in the image: {error}"))?;
    let _ = std::fs::remove_file(&out);
    Ok(bytes)
}
