/* A jump into the 32-bit code segment, and 32-bit calls from there; the whole x32 table; sysenter. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char *code, *stack;

static void far_jump(void) {
    struct { uint32_t offset; uint16_t segment; } __attribute__((packed)) target = {(uint32_t)(uintptr_t)code, 0x23};
    __asm__ volatile("mov %0, %%rsp; ljmp *(%1)" : : "r"(stack + 0x8000), "r"(&target) : "memory");
}

static int ended_by(int which) {
    pid_t pid = fork();
    if (pid == 0) {
        if (which == -1) far_jump();
        else if (which == -2) __asm__ volatile("sysenter" : : "a"(20) : "memory", "rcx", "rdx");
        else syscall(0x40000000 + which, 0, 0, 0, 0, 0, 0);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -1 - WEXITSTATUS(status);
}

int main(void) {
    /* 32-bit: mov eax,20; int 0x80; mov eax,1; xor ebx,ebx; int 0x80 -- getpid, then exit(0) */
    static const unsigned char text[] = {0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xB8, 1, 0, 0, 0, 0x31, 0xDB, 0xCD, 0x80};
    /* Code in a file can be mapped where code in data cannot. */
    int file = memfd_create("code", 0);
    if (write(file, text, sizeof text) != sizeof text) return puts("no file"), 2;
    code = mmap(NULL, 0x1000, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_32BIT, file, 0);
    stack = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (code == MAP_FAILED || stack == MAP_FAILED) return puts("no memory"), 2;
    for (int which = -2; which < 560; which++) {
        int got = ended_by(which);
        /* Without 32-bit support in the kernel the instructions themselves fault. */
        if (got != SIGSYS && !(which < 0 && (got == SIGSEGV || got == SIGILL || got == SIGBUS))) {
            printf("ESCAPED: variant %d ended with %d\n", which, got);
            return 1;
        }
    }
    puts("CONTAINED");
    return 0;
}
