/* Every namespace flag by clone, clone3 and unshare, alone, with threads' flags and with high bits. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int escaped;

static void refused(const char *what, unsigned long flags, long result, int wanted) {
    if (result == 0) _exit(0); /* the child that should not be */
    if (result > 0) waitpid(result, NULL, __WALL);
    if (result >= 0 || errno != wanted) {
        printf("ESCAPED: %s %#lx gave %ld, errno %d\n", what, flags, result, errno);
        escaped = 1;
    }
}

int main(void) {
    unsigned long flags[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};
    for (int i = 0; i < 7; i++) {
        refused("clone", flags[i], syscall(SYS_clone, flags[i] | SIGCHLD, 0, 0, 0, 0), EPERM);
        refused("clone vfork", flags[i], syscall(SYS_clone, flags[i] | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0), EPERM);
        refused("clone with user", flags[i], syscall(SYS_clone, flags[i] | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), EPERM);
        refused("clone high bits", flags[i], syscall(SYS_clone, flags[i] | 0xFFFF000000000000UL | SIGCHLD, 0, 0, 0, 0), EPERM);
    }
    unsigned long unshared[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, 0x80 /* time */, CLONE_FS, CLONE_FILES, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET};
    for (int i = 0; i < 11; i++) {
        errno = 0;
        if (syscall(SYS_unshare, unshared[i]) == 0 || errno != EPERM) {
            printf("ESCAPED: unshare %#lx errno %d\n", unshared[i], errno);
            escaped = 1;
        }
    }
    for (int i = 0; i < 9; i++) {
        uint64_t arguments[11] = {i < 7 ? flags[i] : i == 7 ? 0x80 : 0x200000000UL, 0, 0, 0, SIGCHLD};
        for (size_t size = 64; size <= 88; size += 8)
            refused("clone3", arguments[0], syscall(SYS_clone3, arguments, size), ENOSYS);
    }
    if (escaped) return 1;
    puts("CONTAINED");
    return 0;
}
