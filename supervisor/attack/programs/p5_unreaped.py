# Five thousand children that nobody waits for: they end at the process limit, and go with the jail.
children = 0
try:
    while children < 5000:
        if os.fork() == 0:
            os._exit(0)
        children += 1
except OSError as error:
    must_fail("fork", error.errno, errno.EAGAIN)
must_be(f"{children} zombies", 50 < children < 140, True)
done()
