# Watches and queues end at a number.
kept = 0
while kept < 5000 and libc.inotify_init() >= 0:
    kept += 1
must_be(f"{kept} inotify instances", kept < 1024, True)
queues = 0
rt = ctypes.CDLL("librt.so.1", use_errno=True)
attributes = struct.pack("8q", 0, 10, 8192, 0, 0, 0, 0, 0)
while queues < 5000:
    if call(240, f"q{queues}".encode(), os.O_CREAT | os.O_RDWR, 0o600, ctypes.create_string_buffer(attributes)):
        break
    queues += 1
must_be(f"{queues} message queues", queues < 100, True)
must_fail(
    "a message queue out of bounds",
    call(
        240,
        b"big",
        os.O_CREAT | os.O_RDWR,
        0o600,
        ctypes.create_string_buffer(struct.pack("8q", 0, 1 << 20, 1 << 20, 0, 0, 0, 0, 0)),
    ),
    errno.EINVAL,
    errno.EMFILE,
    errno.ENOMEM,
)
done()
