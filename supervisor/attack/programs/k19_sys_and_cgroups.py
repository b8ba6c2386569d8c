for path in ("/sys", "/sys/fs/cgroup", "/sys/kernel", "/sandbox", "/cgroup"):
    must_be(f"{path} exists", os.path.exists(path), False)
must_be("cgroup file systems", [line for line in open("/proc/mounts") if " cgroup" in line], [])
must_be("cgroup paths", {line.strip().split(":", 2)[2] for line in open("/proc/self/cgroup")} - {"/"}, set())
must_fail("mount cgroup2", call(165, b"c", b"/tmp", b"cgroup2", 0, None), EPERM)
done()
