# Says that it is done, and leaves the host's disks alone.
fd = os.open("/usr/bin/env", os.O_RDONLY)
start = time.monotonic()
for _ in range(20_000):
    os.sync()
    must_be("syncfs", call(306, fd), 0)
must_be("forty thousand of them are quick", time.monotonic() - start < 5, True)
done()
