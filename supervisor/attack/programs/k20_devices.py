must_be(
    "devices",
    sorted(os.listdir("/dev")),
    ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"],
)
for kind in (stat.S_IFBLK, stat.S_IFCHR):
    for where in ("/mnt/data/d", "/tmp/d", "/dev/shm/d"):
        must_fail(f"mknod {where}", call(133, where.encode(), kind | 0o666, os.makedev(1, 1)), EPERM)
        must_fail(f"mknodat {where}", call(259, -100, where.encode(), kind | 0o666, os.makedev(8, 0)), EPERM)
for path in (
    "/dev/kvm",
    "/dev/mem",
    "/dev/fuse",
    "/dev/net/tun",
    "/dev/vda",
    "/dev/sda",
    "/dev/kmsg",
    "/dev/vhost-net",
):
    must_raise(path, lambda: os.open(path, os.O_RDONLY), ENOENT)
os.mkfifo("/tmp/fifo")
done()
