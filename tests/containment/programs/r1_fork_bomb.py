children = 0
try:
    while children < 5000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        children += 1
except OSError as error:
    must_fail("fork", error.errno, errno.EAGAIN)
must_be("some, not many", 50 < children < 140, True)
done()
