//! Programs in C and C++ that do what no program in Rust may: throw out of handlers, and cancel threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::outside::{emulate_in_time, is_possible, run};
use super::skip::skip;

/// What all of them begin with: a queue, its portal, a NOP by ENQCMD.
const PRELUDE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
struct descriptor { uint32_t pasid, operation; uint64_t record, a, b; uint32_t len, rest[7]; }
    __attribute__((aligned(64)));
struct record { volatile uint8_t status; uint8_t rest[31]; } __attribute__((aligned(32)));
static void *map(void) {
    int fd = open("/dev/dsa/wq0.0", O_RDWR);
    return mmap(0, 4096, PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
}
static int nop(void *portal) {
    struct descriptor descriptor;
    struct record record;
    char refused;
    memset(&descriptor, 0, sizeof descriptor);
    record.status = 0;
    descriptor.operation = 0xc;
    descriptor.record = (uint64_t)&record;
    do
        __asm__ volatile(".byte 0xf2, 0x0f, 0x38, 0xf8, 0x02; setz %0"
                         : "=r"(refused) : "a"(portal), "d"(&descriptor) : "memory", "cc");
    while (refused);
    while (!record.status)
        __asm__ volatile("pause");
    return record.status;
}
"#;

/// Compiles the rest of a program, runs it, and has it end with success.
#[track_caller]
pub(crate) fn succeeds(compiler: &str, rest: &str) {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    if let Some(program) = compile(folder.path(), "program", compiler, &[], rest) {
        succeeds_in(folder.path(), &program);
    }
}

/// Compiles the rest of something to a file of this name; nothing, if there is no such compiler.
#[track_caller]
fn compile(folder: &Path, name: &str, compiler: &str, options: &[&str], rest: &str) -> Option<PathBuf> {
    let (source, made) = (folder.join(name).with_extension("cc"), folder.join(name));
    fs::write(&source, [PRELUDE, rest].concat()).unwrap();
    let language = if compiler == "gcc" { "c" } else { "c++" };
    let mut command = Command::new(compiler);
    command.args(["-w", "-O1", "-pthread", "-fnon-call-exceptions", "-x", language]).arg(&source);
    let compiled = match command.args(["-x", "none"]).args(options).arg("-o").arg(&made).output() {
        Ok(compiled) => compiled,
        Err(why) => {
            skip(compiler, format_args!("it does not run: {why}"));
            return None;
        }
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Some(made)
}

#[track_caller]
fn succeeds_in(folder: &Path, program: &Path) {
    let mut command = emulate_in_time(&[]);
    command.arg(program).current_dir(folder);
    let (output, stdout, stderr) = run(command);
    assert!(output.status.success(), "{:?}\n{stdout}\n{stderr}", output.status);
}

/// The libraries of a program are loaded before what is preloaded.
#[test]
fn a_library_may_submit_while_it_is_loaded() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = r"
static int status;
__attribute__((constructor)) static void loaded(void) { status = nop(map()); }
int status_of_the_first(void) { return status; }
";
    let Some(library) = compile(folder.path(), "library.so", "gcc", &["-shared", "-fPIC"], library) else { return };
    let program = "
int status_of_the_first(void);
int main(void) { return status_of_the_first() == 1 && nop(map()) == 1 ? 0 : 1; }
";
    let options = [library.to_str().unwrap(), "-Wl,-rpath,$ORIGIN"];
    if let Some(program) = compile(folder.path(), "program", "gcc", &options, program) {
        succeeds_in(folder.path(), &program);
    }
}

#[test]
fn a_handler_may_throw() {
    succeeds(
        "g++",
        r"
#include <stdexcept>
static void handler(int signal) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    sigprocmask(SIG_UNBLOCK, &one, 0);
    throw std::runtime_error(strsignal(signal));
}
__attribute__((noinline)) static int read(volatile int *address) { return *address; }
int main() {
    void *portal = map();
    signal(SIGSEGV, handler);
    int caught = 0;
    for (int i = 0; i < 3; i++) {
        try {
            read((volatile int *)8);
        } catch (std::exception &) {
            caught++;
        }
        if (nop(portal) != 1) return 2;
    }
    return caught == 3 ? 0 : 1;
}
",
    );
}

#[test]
fn a_thread_may_be_cancelled_where_it_waits_for_a_file() {
    succeeds(
        "gcc",
        r#"
static int started[2];
static void *waits(void *none) {
    write(started[1], "x", 1);
    open("fifo", O_WRONLY);
    return 0;
}
static void *writes(void *none) {
    static char bytes[1 << 20];
    for (;;) write(started[1], bytes, sizeof bytes);
}
int main(void) {
    char byte;
    void *ended;
    pthread_t thread;
    if (pipe(started) || mkfifo("fifo", 0600)) return 1;
    pthread_create(&thread, 0, waits, 0);
    read(started[0], &byte, 1);
    pthread_cancel(thread);
    if (pthread_join(thread, &ended) || ended != PTHREAD_CANCELED) return 2;
    pthread_create(&thread, 0, writes, 0);
    read(started[0], &byte, 1);
    pthread_cancel(thread);
    if (pthread_join(thread, &ended) || ended != PTHREAD_CANCELED) return 3;
    return 0;
}
"#,
    );
}

/// A handler may submit, and leave by longjmp, and so may what runs after it; a fault of its own kind inside of it ends
/// the program.
#[test]
fn a_handler_of_a_trapped_signal_may_submit_and_leave() {
    succeeds(
        "gcc",
        r#"
static void *portal;
static jmp_buf with_mask, without_mask;
static void submits(int signal) { _exit(nop(portal) == 1 ? 7 : 1); }
static void leaves(int signal) { nop(portal); siglongjmp(with_mask, 1); }
static void leaves_blocked(int signal) { longjmp(without_mask, 1); }
static void again(int signal) { __asm__ volatile("ud2"); }
static int run(void (*body)(void)) {
    int status;
    pid_t child = fork();
    if (!child) {
        portal = map();
        body();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}
static void ill(void) { __asm__ volatile("ud2"); }
static void inside(void) { signal(SIGILL, submits); ill(); }
static void left(void) {
    for (volatile int i = 0; i < 3; i++) {
        signal(SIGILL, leaves);
        if (!sigsetjmp(with_mask, 1)) ill();
        nop(portal);
    }
    signal(SIGILL, leaves_blocked);
    if (!setjmp(without_mask)) ill();
    signal(SIGILL, SIG_DFL);
    nop(portal);
}
static void blocked(void) {
    signal(SIGILL, leaves_blocked);
    if (!setjmp(without_mask)) ill();
    ill();
}
static void twice(void) { signal(SIGILL, again); ill(); }
int main(void) {
    if (run(inside) != 7) return 1;
    if (run(left) != 0) return 2;
    if (run(blocked) != -SIGILL) return 3;
    if (run(twice) != -SIGILL) return 4;
    return 0;
}
"#,
    );
}

#[test]
fn what_is_mapped_over_or_moved_is_known() {
    succeeds(
        "gcc",
        r#"
int main(void) {
    void *portal = map(), *other = map(), *moved, *over;
    // Moved to where another one is.
    moved = mremap(portal, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, other);
    if (moved != other || nop(other) != 1) return 1;
    if (mremap(moved, 4096, 8192, MREMAP_MAYMOVE) != MAP_FAILED || errno != EFAULT || nop(moved) != 1) return 2;
    // What is mapped over it is memory, to which an instruction stores.
    over = mmap(moved, 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct descriptor descriptor;
    memset(&descriptor, 0xab, sizeof descriptor);
    __asm__ volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02" : : "a"(over), "d"(&descriptor) : "memory");
    if (over != moved || memcmp(over, &descriptor, sizeof descriptor)) return 3;
    // Nothing else is changed.
    over = mremap(over, 4096, 8192, MREMAP_MAYMOVE);
    if (over == MAP_FAILED || memcmp(over, &descriptor, sizeof descriptor)) return 4;
    return munmap(over, 8192) ? 5 : 0;
}
"#,
    );
}
