must_be(
    "the root",
    sorted(os.listdir("/")),
    ["bin", "code", "dev", "etc", "lib", "lib64", "mnt", "node_modules", "opt", "proc", "sbin", "tmp", "usr", "workspace"],
)
for path in (
    "/root",
    "/home",
    "/var",
    "/run",
    "/srv",
    "/boot",
    "/host",
    "/var/run/docker.sock",
    "/run/dbus/system_bus_socket",
    "/var/lib/gaoler",
):
    must_be(f"{path} exists", os.path.exists(path), False)
must_raise("write into the root", lambda: os.open("/x", os.O_CREAT | os.O_WRONLY), EROFS)
done()
