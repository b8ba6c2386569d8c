must_fail("add_key", call(248, b"user", b"x", b"y", 1, -3), EPERM)
must_fail("request_key", call(249, b"user", b"x", None, -3), EPERM)
for command in (0, 1, 6, 10, 11):
    must_fail(f"keyctl {command}", call(250, command, -3, 0, 0, 0), EPERM)
for path in ("/proc/keys", "/proc/key-users"):
    must_be(path, open(path).read(), "")
done()
