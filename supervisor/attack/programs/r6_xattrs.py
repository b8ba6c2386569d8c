# Extended attributes take from the file system's own limits or fail; they are no second, endless store.
for directory in ("/mnt/data", "/tmp"):
    total, number = 0, 0
    try:
        for number in range(2000):
            path = f"{directory}/x{number}"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            for attribute in range(64):
                os.setxattr(path, f"user.{attribute}", b"x" * 65536)
                total += 65536
    except OSError as error:
        must_fail(f"xattrs of {directory}", error.errno, errno.ENOSPC, errno.EOPNOTSUPP, errno.ENOMEM)
    else:
        escapes.append(f"{total >> 20} MiB of attributes in {directory}")
    must_be(f"{total >> 20} MiB in {directory} is bounded", total <= 256 << 20, True)
    for each in range(number + 1):
        os.unlink(f"{directory}/x{each}")
done()
