# Requests to the file system under /usr, which is the host's own, and attributes that would outlive us.
import fcntl

usr = os.open("/usr", os.O_RDONLY)
for what, number in (
    ("FITRIM", 0xC0185879),
    ("resize", 0x40086610),
    ("group extend", 0x40086607),
    ("move extents", 0xC028660F),
    ("migrate", 0x6609),
    ("swap boot", 0x6611),
    ("shutdown", 0x8004587D),
    ("set label", 0x41009432),
    ("fsverity", 0x40806685),
    ("set project", 0x401C5820),
):
    must_raise(
        what,
        lambda: fcntl.ioctl(usr, number, bytearray(256)),
        EPERM,
        EACCES,
        EROFS,
        errno.EBADF,
        errno.ENOTTY,
        errno.EOPNOTSUPP,
    )
must_raise(
    "lease on a system file",
    lambda: fcntl.fcntl(os.open("/usr/bin/env", os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK),
    EACCES,
)
must_raise("O_NOATIME", lambda: os.open("/usr/bin/env", os.O_RDONLY | os.O_NOATIME), EPERM)
must_raise("xattr", lambda: os.setxattr("/usr/bin/env", "user.x", b"x"), EROFS, EPERM, EACCES)
must_raise("swap file", lambda: (_ for _ in ()).throw(OSError(call(167, b"/tmp/swap", 0), "swapon")), EPERM)
done()
