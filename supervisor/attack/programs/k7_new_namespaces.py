flags = {
    "ns": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
for name, flag in flags.items():
    must_fail(f"unshare {name}", call(272, flag), EPERM)
    must_fail(f"clone {name}", call(56, flag | signal.SIGCHLD, 0, 0, 0, 0), EPERM)
must_fail("clone user with high bits", call(56, (1 << 40) | flags["user"] | signal.SIGCHLD, 0, 0, 0, 0), EPERM)
must_be("unshare(1)", subprocess.run(["unshare", "-U", "id"], capture_output=True).returncode != 0, True)
done()
