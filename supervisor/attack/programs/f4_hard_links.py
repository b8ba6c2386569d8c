must_raise("hard link to the program", lambda: os.link("/code/main.py", "/mnt/data/linked"), errno.EXDEV, EPERM)
must_raise("hard link to a system file", lambda: os.link("/etc/passwd", "/mnt/data/linked"), errno.EXDEV, EPERM)
must_raise("rename into the code", lambda: os.rename("/tmp", "/code/x"), errno.EXDEV, EROFS, EPERM, errno.EBUSY)
done()
