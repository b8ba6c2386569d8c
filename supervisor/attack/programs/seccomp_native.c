/* A compiled program makes no code out of data, reaches no rare kernel code by an option, and takes no filter off. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST_FAIL(what, with) do { errno = 0; if ((long)(what) != -1 || errno != (with)) \
    return printf("ESCAPED: %s gives errno %d\n", #what, errno), 1; } while (0)

static int try_everything(void) {
    MUST_FAIL(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EACCES);
    MUST_FAIL(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EACCES);
    MUST_FAIL(mmap(NULL, 4096, PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0), EACCES);
    int file = memfd_create("code", 0);
    if (ftruncate(file, 4096)) return puts("no file"), 2;
    MUST_FAIL(mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_SHARED, file, 0), EACCES);
    void *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST_FAIL(mprotect(data, 4096, PROT_READ | PROT_EXEC), EACCES);
    MUST_FAIL(syscall(SYS_pkey_mprotect, data, 4096, PROT_EXEC, -1), EACCES);
    int shared = shmget(IPC_PRIVATE, 4096, 0600);
    MUST_FAIL(shmat(shared, NULL, 0100000), EACCES);
    MUST_FAIL(prctl(67, 1, 0, 0, 0), EINVAL);
    MUST_FAIL(prctl(62, 0, 0, 0, 0), EINVAL);
    int discipline = 3;
    MUST_FAIL(ioctl(0, 0x5423, &discipline), EPERM);
    MUST_FAIL(syscall(SYS_ioctl, 0, 0x700005423UL, &discipline), EPERM);
    struct sock_filter accept[] = {{BPF_RET | BPF_K, 0, 0, 0xFFFF}};
    struct sock_fprog program = {1, accept};
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    MUST_FAIL(setsockopt(tcp, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), EPERM);
    MUST_FAIL(syscall(SYS_setsockopt, tcp, 0x100000001UL, SO_ATTACH_FILTER, &program, sizeof program), EPERM);
    MUST_FAIL(setsockopt(tcp, SOL_SOCKET, 51, &program, sizeof program), EPERM);
    MUST_FAIL(setsockopt(tcp, 6, 31, "tls", 3), ENOPROTOOPT);
    MUST_FAIL(setsockopt(tcp, 132, 1, &discipline, sizeof discipline), ENOPROTOOPT);
    close(tcp);
    close(file);
    return 0;
}

static int filters(const char *of) {
    char line[200];
    int found = -1;
    FILE *status = fopen(of, "r");
    if (!status) return -1;
    while (fgets(line, sizeof line, status)) sscanf(line, "Seccomp_filters: %d", &found);
    fclose(status);
    return found;
}

int main(int argc, char **argv) {
    /* One more than the sandbox's init, and one of our own. */
    int wanted = filters("/proc/1/status") + (argc > 1 ? 2 : 1), found = filters("/proc/self/status");
    if (wanted < 2 || found != wanted) return printf("ESCAPED: %d filters\n", found), 1;
    if (try_everything()) return 1;
    pid_t pid = fork();
    if (pid == 0) _exit(try_everything());
    int status;
    waitpid(pid, &status, 0);
    if (status) return puts("ESCAPED: a child is free"), 1;
    if (argc > 1) return puts("CONTAINED"), 0;
    /* A filter that allows everything changes nothing, also for the program that comes next. */
    struct sock_filter allow[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    struct sock_fprog program = {1, allow};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) return puts("no filter"), 2;
    fflush(stdout);
    execl(argv[0], argv[0], "again", NULL);
    return 2;
}
