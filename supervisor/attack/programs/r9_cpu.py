# Four processes want four cores for a second of wall time; one core's worth of time is all they get.
start = time.monotonic()
pids = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        while time.monotonic() - start < 2.0:
            pass
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
wall = time.monotonic() - start
must_be(
    f"CPU seconds {used.ru_utime + used.ru_stime:.2f} in {wall:.2f}",
    used.ru_utime + used.ru_stime < wall * LIMITS["cpu_cores"] * 1.3 + 0.2,
    True,
)
done()
