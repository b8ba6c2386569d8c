for directory in (
    "/usr",
    "/usr/bin",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/opt",
    "/opt/packages",
    "/etc",
    "/code",
    "/dev",
    "/proc",
    "/",
):
    must_raise(
        f"create in {directory}", lambda: os.open(f"{directory}/x", os.O_CREAT | os.O_WRONLY), EROFS, EACCES, ENOENT
    )
of_image = __import__("gaoler_start").__file__
for path in ("/usr/bin/env", "/etc/passwd", "/code/main.py", of_image):
    must_raise(f"write {path}", lambda: os.open(path, os.O_WRONLY), EROFS, EACCES)
    must_raise(f"unlink {path}", lambda: os.unlink(path), EROFS, EACCES)
    must_raise(f"chmod {path}", lambda: os.chmod(path, 0o777), EROFS, EPERM)
must_be(
    "modules of the host's own tools",
    os.listdir("/usr/lib/python3/dist-packages") if os.path.exists("/usr/lib/python3/dist-packages") else [],
    [],
)
done()
