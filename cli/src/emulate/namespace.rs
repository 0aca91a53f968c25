//! A view of the file system that this process has to itself, and whatever it starts: nothing that is done to it is
//! seen outside, and all of it is gone with the last process.
//!
//! Neither sysfs nor, without rights to it, /dev takes new entries. So a folder of them is [covered](cover) by a file
//! system in memory, to which everything that was in the folder is bound again, under its name.
#![expect(unsafe_code, reason = "unshare, and what is done between fork and exec, have no safe interface")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::process::{Signal, getegid, geteuid, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::failure::{Failure, reason};

/// Goes to a view of one's own.
pub(super) fn enter() -> Result<(), Failure> {
    // Both before the user is nobody in particular.
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let entered = match unshare(UnshareFlags::NEWNS) {
        Err(Errno::PERM) => {
            unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUSER).map_err(io::Error::from).and_then(|()| {
                fs::write("/proc/self/setgroups", "deny")?;
                fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
                fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
            })
        }
        entered => entered.map_err(io::Error::from),
    };
    let entered = entered.and_then(|()| {
        let nobody_else = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        Ok(mount_change("/", nobody_else)?)
    });
    entered.map_err(|error| Failure::new(format!("needs root, or user namespaces: {}", reason(&error))))
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: no table of file descriptors is unshared, which is what could go wrong; and the command has one thread
    // yet.
    unsafe { unshare_unsafe(flags) }
}

/// Covers a folder: all that was in it is there again, but for these names; and anything can be added.
///
/// What this user may not reach or bind is left out.
pub(super) fn cover(folder: &Path, but: &[&str]) -> Result<(), Failure> {
    // Held open, since its name is going to be covered; what is in it is opened by and by, as there may be more of it
    // than a process may have open.
    let (held, entries) = entries(folder, but).map_err(|error| Failure::system("read", folder, error))?;
    mount("memring", folder, "tmpfs", MountFlags::NOSUID, c"mode=0755")
        .map_err(|error| Failure::system("cover", folder, error))?;
    for (name, kind) in entries {
        let path = folder.join(&name);
        match again(&held, &name, kind, &path) {
            Err(error) if is_shortage(&error) => return Err(Failure::system("keep", &path, error)),
            _ => {}
        }
    }
    Ok(())
}

/// A folder, and what is in it.
fn entries(folder: &Path, but: &[&str]) -> io::Result<(OwnedFd, Vec<(OsString, FileType)>)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = rustix::fs::openat(CWD, folder, flags, Mode::empty())?;
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !but.iter().any(|but| *but == name) {
            entries.push((name, entry.file_type()?));
        }
    }
    Ok((held, entries))
}

/// Makes a link again, and binds what is none.
fn again(folder: &OwnedFd, name: &OsStr, kind: FileType, path: &Path) -> io::Result<()> {
    if kind.is_symlink() {
        let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
        return symlink(OsStr::from_bytes(target.as_bytes()), path);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let held = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    if kind.is_dir() {
        fs::create_dir(path)?;
    } else {
        fs::write(path, "")?;
    }
    Ok(mount_bind_recursive(format!("/proc/self/fd/{}", held.as_raw_fd()), path)?)
}

/// Whether something has run out: descriptors, memory, room for mounts.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOSPC];
    shortages.iter().any(|shortage| error.raw_os_error() == Some(shortage.raw_os_error()))
}

/// The links in a folder, by their names; of what else is there, nothing.
pub(super) fn links(folder: &Path) -> Vec<(OsString, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?))).collect()
}

/// Makes these links in a folder.
pub(super) fn link(folder: &Path, links: &[(impl AsRef<OsStr>, PathBuf)]) -> io::Result<()> {
    links.iter().try_for_each(|(name, target)| symlink(target, folder.join(name.as_ref())))
}

/// The program that this starts is killed with the command, should somebody kill that, which is told of no such signal
/// and so can pass none on. Otherwise nothing would be left of the view but a program that nobody waits for.
pub(super) fn end_with_command(program: &mut Command) {
    let command = getpid();
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    unsafe {
        program.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have been killed just before.
            if getppid() == Some(command) { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
        })
    };
}
