block = b"x" * (1 << 20)
mib = {name: LIMITS[name] >> 20 for name in ("workspace_bytes", "temporary_bytes", "file_bytes")}
for directory, limit in (
    ("/mnt/data", mib["workspace_bytes"]),
    ("/tmp", mib["temporary_bytes"]),
    ("/dev/shm", mib["temporary_bytes"]),
):
    written = 0
    try:
        for number in range(limit // 50 + 2):
            with open(f"{directory}/{number}", "wb", buffering=0) as file:
                for _ in range(min(100, mib["file_bytes"])):
                    written += file.write(block)
    except OSError as error:
        must_fail(f"fill {directory}", error.errno, errno.ENOSPC)
    must_be(f"{directory} holds at most {limit} MiB", written <= limit << 20, True)
    must_raise(
        "fallocate",
        lambda: os.posix_fallocate(
            os.open(f"{directory}/f", os.O_CREAT | os.O_RDWR), 0, min(limit, mib["file_bytes"]) << 20
        ),
        errno.ENOSPC,
    )
    for name in os.listdir(directory):
        if not name.startswith("."):
            os.unlink(f"{directory}/{name}")
done()
