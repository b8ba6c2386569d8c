# Process ids that are not ours do not exist: neither to signals, nor to handles, limits, priorities or groups.
own = {int(each) for each in os.listdir("/proc") if each.isdigit()}
found = set()
for pid in range(1, 200_000):
    try:
        os.kill(pid, 0)
        found.add(pid)
    except ProcessLookupError:
        pass
    except PermissionError:
        escapes.append(f"{pid} exists")
must_be("processes that can be signalled", found - own, set())
for pid in (os.getpid() + 1000, 70_000, 2_000_000, 4_000_000):
    must_raise(f"pidfd_open {pid}", lambda: os.pidfd_open(pid), errno.ESRCH, errno.EINVAL)
    must_raise(f"prlimit {pid}", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0)), errno.ESRCH)
    must_raise(f"getpgid {pid}", lambda: os.getpgid(pid), errno.ESRCH)
    must_raise(f"affinity {pid}", lambda: os.sched_setaffinity(pid, {0}), errno.ESRCH)
must_be("no parent outside", os.path.exists(f"/proc/{os.getppid()}") or os.getppid() == 0, True)
must_raise("join the group of an outsider", lambda: os.setpgid(0, 70_000), EPERM, errno.ESRCH)
done()
