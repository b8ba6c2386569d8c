block = b"x" * (1 << 20)
for directory, limit in (("/mnt/data", 256), ("/tmp", 256), ("/dev/shm", 256)):
    written = 0
    try:
        for number in range(20):
            with open(f"{directory}/{number}", "wb", buffering=0) as file:
                for _ in range(100):
                    written += file.write(block)
    except OSError as error:
        must_fail(f"fill {directory}", error.errno, errno.ENOSPC)
    must_be(f"{directory} holds at most {limit} MiB", written <= limit << 20, True)
    must_raise("fallocate", lambda: os.posix_fallocate(os.open(f"{directory}/f", os.O_CREAT | os.O_RDWR), 0, 250 << 20), errno.ENOSPC)
    for name in os.listdir(directory):
        if not name.startswith("."):
            os.unlink(f"{directory}/{name}")
done()
