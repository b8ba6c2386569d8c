# The old way out: a cgroup hierarchy of one's own with a release agent.
for kind, options in (
    (b"cgroup", b"memory"),
    (b"cgroup", b"rdma"),
    (b"cgroup", b"none,name=x"),
    (b"cgroup2", None),
    (b"cpuset", None),
    (b"sysfs", None),
    (b"debugfs", None),
    (b"tracefs", None),
    (b"securityfs", None),
    (b"bpf", None),
    (b"devpts", None),
    (b"overlay", b"lowerdir=/usr,upperdir=/tmp/u,workdir=/tmp/w"),
    (b"ext4", None),
    (b"binfmt_misc", None),
    (b"nsfs", None),
    (b"configfs", None),
):
    must_fail(f"mount {kind.decode()}", call(165, b"x", b"/tmp", kind, 0, options), EPERM)
    must_fail(f"fsopen {kind.decode()}", call(430, kind, 0), EPERM)
must_fail("a cgroup namespace", call(272, 0x2000000), EPERM)
must_be(
    "no release agent anywhere",
    [
        path
        for path in (
            "/sys",
            "/proc/sys/fs/binfmt_misc/register",
            "/sys/fs/cgroup/release_agent",
            "/sys/kernel/uevent_helper",
        )
        if os.path.exists(path)
    ],
    [],
)
done()
