# What holds a process cannot be undone by it.
def prctl(*arguments):
    return call(157, *(list(arguments) + [0] * (5 - len(arguments))))


must_fail("clear no_new_privs", prctl(38, 0), errno.EINVAL)
for capability in range(0, 41):
    must_fail(f"drop from the bounding set {capability}", prctl(24, capability), EPERM)
    must_fail(f"ambient capability {capability}", prctl(47, 2, capability), EPERM)
must_fail("securebits", prctl(28, 0), EPERM)
must_fail("keep capabilities locked off by none", prctl(28, 0x2F), EPERM)
must_fail("PR_SET_MM", prctl(35, 1, 0), EPERM, errno.EINVAL)
must_fail("seccomp off", prctl(22, 0), errno.EINVAL)
must_fail("seccomp strict after filter", prctl(22, 1), errno.EINVAL)
allow = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000), 8)
program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", 1, ctypes.addressof(allow)), 16)
must_be("a filter of our own", call(317, 1, 0, program), 0)
must_fail("does not open what was shut", call(272, 0x10000000), EPERM)
for path, text in (("uid_map", "0 0 1"), ("gid_map", "0 0 1"), ("setgroups", "allow")):
    must_raise(path, lambda: open(f"/proc/self/{path}", "w").write(text), EROFS, EACCES, EPERM)
must_fail("setgroups", call(116, 1, ctypes.byref(ctypes.c_int(0))), EPERM)
must_fail("setresuid", call(117, 0, 0, 0), EPERM, errno.EINVAL)
call(122, 0)
must_be("setfsuid", call(122, 0) or libc.setfsuid(-1), 1000)
done()
