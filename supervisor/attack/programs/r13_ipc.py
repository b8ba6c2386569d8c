# Our own System V and POSIX IPC works, and nothing of anyone else is in it.
must_be("shared memory segments", len(open("/proc/sysvipc/shm").readlines()), 1)
must_be("semaphores", len(open("/proc/sysvipc/sem").readlines()), 1)
identifier = libc.shmget(0x1234, 4096, 0o1600)
must_be("shmget", identifier >= 0, True)
must_be("/dev/shm", os.listdir("/dev/shm"), [])
done()
