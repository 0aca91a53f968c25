//! Programs in C that look at what they are told of an exception.

use super::compiled::succeeds;

/// A handler that brings memory back must know where, and whether anything is there: source and destination, missing
/// and protected.
#[test]
fn a_handler_is_told_of_a_page_fault() {
    succeeds(
        "gcc",
        r#"
#include <ucontext.h>
static sigjmp_buf before;
static int code, exception, cause;
static char *address, *of_context;
static void handler(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    code = info->si_code;
    address = info->si_addr;
    of_context = (char *)registers[REG_CR2];
    exception = registers[REG_TRAPNO];
    cause = registers[REG_ERR];
    siglongjmp(before, 1);
}
static int is_told(void *to, void *from, char *where, int why, int how) {
    exception = 0;
    if (!sigsetjmp(before, 1))
        __asm__ volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02" : : "a"(to), "d"(from) : "memory");
    return exception == 14 && address == where && of_context == where && code == why && cause == how;
}
int main(void) {
    static char line[64] __attribute__((aligned(64)));
    struct sigaction action = {0};
    char *pages = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, 0);
    munmap(pages + 4096, 4096);
    mprotect(pages + 8192, 4096, PROT_READ);
    // It begins in a page that is there.
    if (!is_told(line, pages + 4096 - 32, pages + 4096, SEGV_MAPERR, 4)) return 1;
    if (!is_told(line, pages + 4096 + 32, pages + 4096 + 32, SEGV_MAPERR, 4)) return 2;
    if (!is_told(pages + 4096, line, pages + 4096, SEGV_MAPERR, 6)) return 3;
    if (!is_told(pages + 8192, line, pages + 8192, SEGV_ACCERR, 7)) return 4;
    mprotect(pages + 8192, 4096, PROT_NONE);
    if (!is_told(line, pages + 8192, pages + 8192, SEGV_ACCERR, 5)) return 5;
    return 0;
}
"#,
    );
}

/// Who looks at a program that dies of a fault, by its core dump or as its debugger, sees the address.
#[test]
fn a_fatal_fault_keeps_its_address() {
    succeeds(
        "gcc",
        r#"
#include <sys/ptrace.h>
static void *wrong = (void *)0x12340;
static void reads(void) { *(volatile char *)wrong; }
static void stores(void) {
    static char line[64] __attribute__((aligned(64)));
    __asm__ volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02" : : "a"(wrong), "d"(line) : "memory");
}
static int keeps(void (*body)(void)) {
    siginfo_t last = {0};
    int status;
    pid_t child = fork();
    if (!child) {
        // Not everybody may.
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(77);
        body();
        _exit(1);
    }
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        ptrace(PTRACE_GETSIGINFO, child, 0, &last);
        ptrace(PTRACE_CONT, child, 0, WSTOPSIG(status));
    }
    if (WIFEXITED(status)) return WEXITSTATUS(status) == 77;
    return WTERMSIG(status) == SIGSEGV && last.si_signo == SIGSEGV && last.si_code == SEGV_MAPERR &&
           last.si_addr == wrong;
}
int main(void) {
    if (!keeps(reads)) return 1;
    if (!keeps(stores)) return 2;
    return 0;
}
"#,
    );
}
