# Of all mounts only three can be written, and none of the read-only ones can be turned.
writable = set()
for line in open("/proc/self/mountinfo"):
    path = line.split()[4]
    if not os.statvfs(path).f_flag & os.ST_RDONLY:
        writable.add(path)
must_be(
    "writable mounts",
    {path for path in writable if not stat.S_ISCHR(os.stat(path).st_mode)},
    {"/mnt/data", "/tmp", "/dev/shm"},
)
must_be(
    "writable devices",
    {path for path in writable if stat.S_ISCHR(os.stat(path).st_mode)}
    <= {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")},
    True,
)
for path in ("/dev/null", "/dev/zero", "/dev/random"):
    must_raise(f"chmod {path}", lambda: os.chmod(path, 0o777), EPERM, EROFS)
    must_raise(f"touch {path}", lambda: os.utime(path, (0, 0)), EPERM, EROFS, EACCES)
    must_raise(f"unlink {path}", lambda: os.unlink(path), EROFS, EPERM, EACCES, errno.EBUSY)
for path in ("/usr", "/etc", "/code", "/proc", "/", "/dev", "/usr/local"):
    must_fail(f"remount {path}", call(165, b"none", path.encode(), None, 32, None), EPERM)
    must_fail(f"bind remount {path}", call(165, b"none", path.encode(), None, 32 | 4096, None), EPERM)
    must_fail(
        f"mount_setattr {path}",
        call(442, -100, path.encode(), 0x8000, ctypes.create_string_buffer(struct.pack("=4Q", 0, 1, 0, 0), 32), 32),
        EPERM,
    )
done()
