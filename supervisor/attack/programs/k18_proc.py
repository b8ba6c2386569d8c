for path in (
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/overcommit_memory",
    "/proc/1/mem",
    "/proc/sys/net/ipv4/ip_forward",
):
    must_raise(f"write {path}", lambda: os.open(path, os.O_WRONLY), EACCES, EPERM, EROFS, ENOENT)
for path in (
    "/proc/kcore",
    "/proc/kmsg",
    "/proc/timer_list",
    "/proc/kpageflags",
    "/proc/vmallocinfo",
    "/proc/slabinfo",
):
    must_raise(f"read {path}", lambda: open(path, "rb").read(64), EACCES, EPERM, ENOENT)
for path in (
    "/proc/kallsyms",
    "/proc/config.gz",
    "/proc/keys",
    "/proc/cmdline",
    "/proc/diskstats",
    "/proc/sys/kernel/random/boot_id",
):
    if os.path.exists(path):
        must_be(path, open(path, "rb").read(), b"")
must_be("init's environment", open("/proc/1/environ", "rb").read(), b"")
must_be("init's command", open("/proc/1/cmdline", "rb").read().split(b"\0")[0], b"/usr/bin/catatonit")
must_be("init's root", os.path.samefile("/proc/1/root", "/"), True)
pids = {int(each) for each in os.listdir("/proc") if each.isdigit()}
must_be("other processes", [pid for pid in pids if os.stat(f"/proc/{pid}").st_uid != os.getuid()], [])
must_be("few processes", len(pids) <= 3, True)
must_raise("overwrite our own program", lambda: os.open("/proc/self/exe", os.O_WRONLY), EACCES, EROFS, errno.ETXTBSY)
done()
