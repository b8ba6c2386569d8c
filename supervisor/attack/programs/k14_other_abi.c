/* 32-bit system calls and x32 numbers: each kills the process that tries. */
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int killed_by(int which) {
    pid_t pid = fork();
    if (pid == 0) {
        if (which == 0) {
            long result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid */
        } else if (which == 1) {
            long result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(102), "b"(1), "c"(0) : "memory"); /* socketcall */
        } else if (which == 2) {
            syscall(0x40000000 + 39); /* x32 getpid */
        } else {
            syscall(0x40000000 + 521); /* x32 ptrace */
        }
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

int main(void) {
    for (int which = 0; which < 4; which++) {
        int got = killed_by(which);
        /* A kernel without 32-bit support answers int 0x80 with SIGSEGV. */
        if (got != SIGSYS && !(which < 2 && got == SIGSEGV)) {
            printf("ESCAPED: variant %d ended with %d\n", which, got);
            return 1;
        }
    }
    puts("CONTAINED");
    return 0;
}
