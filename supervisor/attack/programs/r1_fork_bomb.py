children = 0
try:
    while children < LIMITS["processes"] + 500:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        children += 1
except OSError as error:
    must_fail("fork", error.errno, errno.EAGAIN)
must_be("some, not many", LIMITS["processes"] // 3 < children <= LIMITS["processes"], True)
done()
