# Pipes are widened by a few only; what all processes together can hold in them stays below the memory limit.
import fcntl

counts, told = os.pipe()
children = 0
for _ in range(60):
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        total, kept = 0, []
        try:
            while True:
                left, right = os.pipe()
                kept.append(left)
                try:
                    fcntl.fcntl(right, fcntl.F_SETPIPE_SZ, 1 << 20)
                except OSError:
                    pass
                os.set_blocking(right, False)
                try:
                    while True:
                        total += os.write(right, b"x" * 4096)
                except BlockingIOError:
                    pass
        except OSError:
            pass
        os.write(told, struct.pack("Q", total))
        time.sleep(60)
    children += 1
total = sum(struct.unpack("Q", os.read(counts, 8))[0] for _ in range(children))
must_be(f"{total >> 20} MiB in pipes of {children} processes is below the limit", total < LIMITS["memory_bytes"], True)
must_raise("a pipe of a gigabyte", lambda: fcntl.fcntl(counts, fcntl.F_SETPIPE_SZ, 1 << 30), EPERM)
done()
