import fcntl, termios

left, right = os.pipe()
for fd in (0, 1, 2, left):
    must_raise("TIOCSTI", lambda: fcntl.ioctl(fd, termios.TIOCSTI, b"x"), EPERM)
    must_fail("TIOCSTI with high bits", call(16, fd, (1 << 32) | 0x5412, b"x"), EPERM)
    must_raise("TIOCLINUX", lambda: fcntl.ioctl(fd, 0x541C, b"\x02"), EPERM)
    must_be("a terminal", os.isatty(fd), False)
must_raise("/dev/tty", lambda: os.open("/dev/tty", os.O_RDWR), ENOENT, errno.ENXIO)
must_raise("/dev/ptmx", lambda: os.open("/dev/ptmx", os.O_RDWR), ENOENT)
done()
