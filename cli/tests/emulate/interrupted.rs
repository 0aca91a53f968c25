//! Programs in C whose signals and threads get in the way of what they submit.

use super::compiled::succeeds;

/// A handler may interrupt a write to the queue wherever it likes, and write there itself: a system call is done by
/// then, or has not begun.
#[test]
fn a_handler_may_write_while_a_write_is_interrupted() {
    succeeds(
        "gcc",
        r#"
#include <sys/time.h>
static int file;
static volatile int handled;
static void write_nop(void) {
    struct descriptor descriptor;
    struct record record;
    memset(&descriptor, 0, sizeof descriptor);
    record.status = 0;
    descriptor.operation = 0xc;
    descriptor.record = (uint64_t)&record;
    while (write(file, &descriptor, sizeof descriptor) != sizeof descriptor)
        ;
    while (!record.status)
        __asm__ volatile("pause");
}
static void handler(int signal) {
    write_nop();
    handled++;
}
int main(void) {
    struct itimerval often = {{0, 150}, {0, 150}};
    file = open("/dev/dsa/wq0.0", O_RDWR);
    signal(SIGALRM, handler);
    setitimer(ITIMER_REAL, &often, 0);
    while (handled < 3000)
        write_nop();
    return 0;
}
"#,
    );
}

/// On hardware an instruction is done or not begun when its thread ends. What was half submitted would be waited for
/// when the portal goes.
#[test]
fn a_thread_may_be_cancelled_where_it_submits() {
    succeeds(
        "gcc",
        r#"
#include <time.h>
static void *portal;
static volatile int is_up;
static void *submits(void *none) {
    struct descriptor descriptor;
    memset(&descriptor, 0, sizeof descriptor);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, 0);
    is_up = 1;
    for (;;)
        __asm__ volatile(".byte 0xf2, 0x0f, 0x38, 0xf8, 0x02" : : "a"(portal), "d"(&descriptor) : "memory", "cc");
}
int main(void) {
    portal = map();
    for (int i = 0; i < 1500; i++) {
        pthread_t thread;
        struct timespec a_while = {0, i * 7919 % 60000};
        is_up = 0;
        pthread_create(&thread, 0, submits, 0);
        while (!is_up)
            ;
        // Any moment will do.
        nanosleep(&a_while, 0);
        pthread_cancel(thread);
        pthread_join(thread, 0);
    }
    if (nop(portal) != 1) return 1;
    return munmap(portal, 4096);
}
"#,
    );
}

/// A thread that waits with all other signals blocked is a common one.
#[test]
fn a_handler_may_submit_while_its_thread_waits_for_it() {
    succeeds(
        "gcc",
        r#"
static void *portal;
static volatile int status;
static void handler(int signal) { status = nop(portal); }
int main(void) {
    sigset_t all;
    portal = map();
    signal(SIGUSR1, handler);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    raise(SIGUSR1);
    sigdelset(&all, SIGUSR1);
    if (sigsuspend(&all) != -1 || errno != EINTR) return 1;
    return status == 1 ? 0 : 2;
}
"#,
    );
}

/// The emulation is of a device, and not of another C library.
#[test]
fn a_handler_interrupts_for_good_if_the_program_says_so() {
    succeeds(
        "gcc",
        r#"
static void handler(int signal) {}
static int is_interrupted(void) {
    int ends[2];
    char byte;
    pipe(ends);
    alarm(1);
    return read(ends[0], &byte, 1) == -1 && errno == EINTR;
}
int main(void) {
    struct sigaction now;
    siginterrupt(SIGALRM, 1);
    signal(SIGALRM, handler);
    if (!is_interrupted()) return 1;
    siginterrupt(SIGALRM, 0);
    signal(SIGALRM, handler);
    sigaction(SIGALRM, 0, &now);
    if (!(now.sa_flags & SA_RESTART)) return 2;
    // The trap's own too.
    signal(SIGSEGV, handler);
    siginterrupt(SIGSEGV, 1);
    sigaction(SIGSEGV, 0, &now);
    if (now.sa_flags & SA_RESTART || now.sa_handler != handler) return 3;
    return nop(map()) == 1 ? 0 : 4;
}
"#,
    );
}

/// A handler may fork wherever it interrupts its thread, also in the middle of an allocation: the child, which only
/// ends here, allocates nothing by itself.
#[test]
fn a_handler_may_fork_where_nothing_can_be_allocated() {
    succeeds(
        "gcc",
        r#"
#include <stdlib.h>
#include <sys/time.h>
static volatile int children, failed;
static void handler(int signal) {
    int status;
    pid_t child = fork();
    if (!child) _exit(0);
    waitpid(child, &status, 0);
    failed += status != 0;
    children++;
}
int main(void) {
    struct itimerval often = {{0, 500}, {0, 500}};
    signal(SIGALRM, handler);
    setitimer(ITIMER_REAL, &often, 0);
    while (children < 500) {
        void *blocks[64];
        for (int i = 0; i < 64; i++) blocks[i] = malloc(1100 + i * 377);
        for (int i = 0; i < 64; i++) free(blocks[i]);
    }
    return failed != 0;
}
"#,
    );
}
