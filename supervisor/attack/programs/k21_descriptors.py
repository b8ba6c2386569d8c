must_be(
    "open descriptors",
    sorted(int(each) for each in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{each}")),
    [0, 1, 2],
)
must_be("stdin", os.path.samefile("/proc/self/fd/0", "/dev/null"), True)
for fd in (1, 2):
    must_be(f"fd {fd} is a pipe", stat.S_ISFIFO(os.fstat(fd).st_mode), True)
for fd in range(3, 1024):
    must_raise(f"fd {fd}", lambda: os.fstat(fd), errno.EBADF)
done()
