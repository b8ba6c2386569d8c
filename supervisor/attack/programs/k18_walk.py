# Every file of /proc that is not masked, and every one of /proc/sys: none can be opened for writing.
tried = 0
for directory, directories, files in os.walk("/proc"):
    directories[:] = [each for each in directories if not (directory == "/proc/self" and each == "task")]
    for name in files:
        path = f"{directory}/{name}"
        try:
            found = os.lstat(path)
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            continue  # links lead to our own files; a mask is the null device
        tried += 1
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue
        escapes.append(f"{path} opened for writing")
must_be("enough was tried", tried > 500, True)
for path in (
    "/proc/self/mem",
    "/proc/self/oom_score_adj",
    "/proc/self/attr/exec",
    "/proc/thread-self/comm",
    "/proc/self/clear_refs",
    "/proc/self/timerslack_ns",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/kernel/core_pattern",
):
    must_raise(f"write {path}", lambda: os.open(path, os.O_WRONLY), EROFS, EACCES, EPERM, ENOENT)
must_be(
    "init runs nothing of the host",
    {line.split(maxsplit=5)[5].strip() for line in open("/proc/1/maps") if "/" in line},
    {"/usr/bin/catatonit"},
)
done()
