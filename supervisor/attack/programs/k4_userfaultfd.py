must_fail("userfaultfd", call(323, 0), EPERM)
must_fail("userfaultfd user mode only", call(323, 1), EPERM)
must_raise("/dev/userfaultfd", lambda: os.open("/dev/userfaultfd", os.O_RDWR), ENOENT)
done()
