signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fd = os.open("/mnt/data/sparse", os.O_CREAT | os.O_RDWR)
must_raise("a sparse terabyte", lambda: os.ftruncate(fd, 1 << 40), errno.EFBIG)
must_raise("a byte far out", lambda: os.pwrite(fd, b"x", 1 << 40), errno.EFBIG)
os.unlink("/mnt/data/sparse")
for name in ("NOFILE", "FSIZE", "CORE"):
    soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    try:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (hard, hard + 1))
        escapes.append(f"raised {name}")
    except (ValueError, OSError):
        pass
done()
