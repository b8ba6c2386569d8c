# Whatever hangs in /proc/*/ns, and the ways from one namespace or process handle to another.
import fcntl

tried = 0
for process in [each for each in os.listdir("/proc") if each.isdigit()] + ["self", "thread-self"]:
    try:
        names = os.listdir(f"/proc/{process}/ns")
    except OSError:
        continue
    for name in names:
        try:
            fd = os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY)
        except OSError:
            continue
        tried += 1
        for kind in (0, 0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
            must_fail(f"setns {process} {name} {kind:#x}", call(308, fd, kind), EPERM)
        must_raise(f"parent of {process} {name}", lambda: fcntl.ioctl(fd, 0xB702), EPERM, errno.EINVAL, errno.ENOTTY)
        os.close(fd)
must_be("namespaces were tried", tried >= 8, True)
user = os.open("/proc/self/ns/user", os.O_RDONLY)
must_raise("the user namespace above", lambda: fcntl.ioctl(user, 0xB701), EPERM)
must_raise("the process namespace above", lambda: fcntl.ioctl(os.open("/proc/self/ns/pid", os.O_RDONLY), 0xB702), EPERM)
for number in range(0xFF01, 0xFF0B):
    try:
        fd = fcntl.ioctl(os.pidfd_open(1), number)
    except OSError:
        continue
    must_fail(f"setns of a namespace by pidfd {number:#x}", call(308, fd, 0), EPERM)
done()
