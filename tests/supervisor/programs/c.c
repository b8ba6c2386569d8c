/* Much of what courses and examples in C do. */
#define _GNU_SOURCE
#include <aio.h>
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <locale.h>
#include <math.h>
#include <mqueue.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define NEED(what) do { if (!(what)) { perror(#what); exit(1); } } while (0)
static atomic_int counter;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;

static void *work(void *unused) {
    (void)unused;
    pthread_setname_np(pthread_self(), "worker");
    pthread_mutex_lock(&lock); counter++; pthread_cond_signal(&ready); pthread_mutex_unlock(&lock);
    char *block = malloc(3 << 20); memset(block, 1, 3 << 20); free(block);
    return NULL;
}

static void on_signal(int number) { (void)number; counter++; }

static void threads(void) {
    pthread_t all[8];
    for (int i = 0; i < 8; i++) NEED(pthread_create(&all[i], NULL, work, NULL) == 0);
    pthread_mutex_lock(&lock);
    while (counter < 8) pthread_cond_wait(&ready, &lock);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 8; i++) pthread_join(all[i], NULL);
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    sched_yield();
    struct sched_param param = {0}; pthread_setschedparam(pthread_self(), SCHED_OTHER, &param); nice(1);
}

static void memory(void) {
    char *big = malloc(300u << 20);
    NEED(big);
    memset(big, 1, 64 << 20);
    big = realloc(big, 400u << 20);
    NEED(big);
    free(big);
    void *area = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED);
    NEED(mprotect(area, 4096, PROT_READ) == 0);
    area = mremap(area, 1 << 20, 2 << 20, MREMAP_MAYMOVE);
    madvise(area, 4096, MADV_WILLNEED);
    mlock(area, 4096);
    munlock(area, 4096);
    munmap(area, 2 << 20);
    void *m = dlopen("libm.so.6", RTLD_NOW);
    NEED(m && dlsym(m, "cos"));
    dlclose(m);
    alloca(1000);
    posix_memalign(&area, 64, 100);
    free(area);
}

static void processes(void) {
    int fds[2]; NEED(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) { setpgid(0, 0); write(fds[1], "x", 1); _exit(5); }
    char got; read(fds[0], &got, 1); int status; waitpid(pid, &status, 0); NEED(WEXITSTATUS(status) == 5);
    pid = vfork();
    if (pid == 0) { execl("/bin/true", "true", NULL); _exit(1); } siginfo_t info;
    waitid(P_PID, pid, &info, WEXITED);
    char *arguments[] = {"true", NULL};
    NEED(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ) == 0);
    wait(NULL);
    NEED(system("ls / > /dev/null; grep -P x /etc/passwd > /dev/null; python3 -c 'import numpy'") >= 0);
    FILE *from = popen("echo hi | tr a-z A-Z", "r"); char line[9]; NEED(fgets(line, 9, from)); pclose(from);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    setrlimit(RLIMIT_STACK, &limit);
    struct utsname name;
    uname(&name);
    struct sysinfo system;
    sysinfo(&system);
    getpwuid(getuid());
    char host[65];
    gethostname(host, 65);
    getloadavg((double[3]){0}, 3);
    prctl(PR_SET_NAME, "ordinary");
    setlocale(LC_ALL, "");
}

static void signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    stack_t stack = {.ss_sp = malloc(SIGSTKSZ), .ss_size = SIGSTKSZ}; sigaltstack(&stack, NULL);
    struct itimerval timer = {.it_value = {0, 10000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    pause();
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGUSR1, (union sigval){0});
    alarm(0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR2);
    int number;
    sigwait(&set, &number);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_t id;
    timer_create(CLOCK_MONOTONIC, &event, &id);
    struct itimerspec spec = {.it_value = {0, 1000000}};
    timer_settime(id, 0, &spec, NULL);
    nanosleep(&(struct timespec){0, 5000000}, NULL);
    timer_delete(id);
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(fd, 0, &spec, NULL);
    long long n;
    read(fd, &n, 8);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &(struct timespec){0});
    usleep(1000);
    time(NULL);
    clock();
}

static void network(void) {
    int on = 1, server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    NEED(bind(server, (void *)&at, size) == 0);
    listen(server, 5);
    getsockname(server, (void *)&at, &size);
    NEED(connect(client, (void *)&at, size) == 0);
    int peer = accept(server, NULL, NULL);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval tv = {1, 0};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    send(client, "x", 1, MSG_NOSIGNAL);
    char c;
    recv(peer, &c, 1, 0);
    struct pollfd p = {peer, POLLIN, 0};
    poll(&p, 1, 0);
    fd_set s;
    FD_ZERO(&s);
    FD_SET(peer, &s);
    select(peer + 1, &s, NULL, NULL, &(struct timeval){0, 0});
    int e = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    epoll_ctl(e, EPOLL_CTL_ADD, peer, &ev);
    epoll_wait(e, &ev, 1, 0);
    ioctl(peer, FIONREAD, &on);
    ioctl(peer, FIONBIO, &on);
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    sendto(udp, "x", 1, 0, (void *)&at, size);
    int pair[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    struct iovec v = {"x", 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    sendmsg(pair[0], &m, 0);
    shutdown(client, SHUT_WR);
    close(client);
}

static int visit(const char *path, const struct stat *status, int flag, struct FTW *walk) {
    return !path || !status || flag < 0 || !walk;
}

static void files(void) {
    FILE *t = tmpfile();
    NEED(t);
    fprintf(t, "%f", sin(1));
    fflush(t);
    rewind(t);
    fclose(t);
    char name[] = "/tmp/xXXXXXX";
    int fd = mkstemp(name);
    NEED(fd >= 0);
    write(fd, name, 10);
    lseek(fd, 0, SEEK_SET);
    ftruncate(fd, 4096);
    flock(fd, LOCK_EX);
    struct flock l = {.l_type = F_WRLCK};
    fcntl(fd, F_SETLK, &l);
    fsync(fd);
    posix_fallocate(fd, 0, 8192);
    struct stat st;
    fstat(fd, &st);
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    NEED(map != MAP_FAILED);
    msync(map, 4096, MS_SYNC);
    struct aiocb job = {.aio_fildes = fd, .aio_buf = map, .aio_nbytes = 10};
    aio_read(&job);
    const struct aiocb *list[] = {&job};
    aio_suspend(list, 1, NULL);
    chdir("/tmp");
    mkdir("d", 0700);
    rename("d", "e");
    rmdir("e");
    link(name, "y");
    symlink("y", "z");
    char to[9];
    readlink("z", to, 9);
    unlink("y");
    chmod(name, 0600);
    access(name, R_OK);
    nftw("/code", visit, 5, 0);
    isatty(0);
    struct winsize w;
    ioctl(1, TIOCGWINSZ, &w);
    mkfifo("f", 0600);
    unlink(name);
    dup2(fd, 60);
    char random[8];
    getrandom(random, 8, 0);
    eventfd(0, 0);
}

static void shared(void) {
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    char *at = shmat(id, NULL, 0);
    NEED(at != (void *)-1);
    shmdt(at);
    shmctl(id, IPC_RMID, NULL);
    id = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf up = {0, 1, 0};
    semop(id, &up, 1);
    semctl(id, 0, IPC_RMID);
    id = msgget(IPC_PRIVATE, 0600);
    struct { long type; char text[4]; } m = {1, "hi"};
    msgsnd(id, &m, 4, 0);
    msgrcv(id, &m, 4, 1, 0);
    msgctl(id, IPC_RMID, NULL);
    int fd = shm_open("/x", O_CREAT | O_RDWR, 0600);
    NEED(fd >= 0);
    shm_unlink("/x");
    sem_t *s = sem_open("/s", O_CREAT, 0600, 1);
    NEED(s != SEM_FAILED);
    sem_wait(s);
    sem_post(s);
    sem_unlink("/s");
    mqd_t q = mq_open("/q", O_CREAT | O_RDWR, 0600, NULL);
    if (q >= 0) { mq_send(q, "x", 1, 0); mq_unlink("/q"); }
}

int main(void) { threads(); memory(); processes(); signals(); network(); files(); shared(); puts("done"); }
