opened = []
try:
    while len(opened) < LIMITS["open_files"] + 10_000:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    must_fail("open", error.errno, errno.EMFILE)
must_be("descriptors", len(opened) < LIMITS["open_files"], True)
for fd in opened:
    os.close(fd)
done()
