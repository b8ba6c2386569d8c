mounts = {line.split()[4]: line.split()[5].split(",") for line in open("/proc/self/mountinfo")}
for flag in ("nosuid", "nodev", "nosymfollow", "rw"):
    must_be(f"/mnt/data is {flag}", flag in mounts["/mnt/data"], True)
os.symlink("/etc/passwd", "/tmp/l")
os.symlink("/etc/passwd", "/mnt/data/l")
must_raise("following a link in the workspace", lambda: open("/mnt/data/l").read(), errno.ELOOP)
os.unlink("/mnt/data/l")
device = [path for path, flags in mounts.items() if "nodev" not in flags and not path.startswith(("/dev", "/proc/"))]
must_be("mounts with devices", device, [])
done()
