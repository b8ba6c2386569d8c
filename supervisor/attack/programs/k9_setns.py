for name in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
    for process in ("self", "1"):
        try:
            fd = os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY)
        except OSError:
            continue
        must_fail(f"setns {process} {name}", call(308, fd, 0), EPERM)
        os.close(fd)
pidfd = os.pidfd_open(1)
must_fail("setns by pidfd", call(308, pidfd, 0x10000000 | 0x20000), EPERM)
must_fail("pidfd_getfd", call(438, pidfd, 0, 0), EPERM)
done()
