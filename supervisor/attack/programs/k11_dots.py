# Up from everywhere: paths, descriptors and the links of /proc end at the same root.
root = os.stat("/")
same = (root.st_dev, root.st_ino)


def where(path, fd=None):
    found = os.stat(path, dir_fd=fd)
    return found.st_dev, found.st_ino


ups = "../" * 500
for start in (
    "/",
    "/mnt/data",
    "/tmp",
    "/code",
    "/usr/local",
    "/dev/shm",
    "/proc/self",
    "/proc/1",
    "/proc/self/root",
    "/proc/1/root",
    "/proc/self/cwd",
    "/proc/1/cwd",
):
    try:
        fd = os.open(start, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        must_fail(start, error.errno, EACCES, EPERM)
        continue
    must_be(f"up from {start}", where(f"{start}/{ups}"), same)
    must_be(f"up from a descriptor of {start}", where(ups, fd), same)
    os.fchdir(fd)
    must_be(f"up from inside {start}", where(ups), same)
    os.close(fd)
# A directory moved away below an open descriptor.
os.makedirs("/tmp/a/b/c")
fd = os.open("/tmp/a/b/c", os.O_RDONLY)
os.rename("/tmp/a/b/c", "/tmp/c")
must_be("up from a moved directory", where(ups, fd), same)
os.rmdir("/tmp/c")
try:
    must_be("up from a removed directory", where(ups, fd), same)
except OSError as error:
    must_fail("up from a removed directory", error.errno, ENOENT)
done()
