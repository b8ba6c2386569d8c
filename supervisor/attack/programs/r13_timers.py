# Timers and queued signals end at the user's limit, which is of our own user namespace.
identifier = ctypes.c_int()
event = ctypes.create_string_buffer(struct.pack("=QiiI", 0, 34, 0, 0), 64)
signal.pthread_sigmask(signal.SIG_BLOCK, range(34, 65))
timers = 0
while timers < 500_000:
    got = call(222, 1, event, ctypes.byref(identifier))
    if got:
        must_fail("timer_create", got, errno.EAGAIN)
        break
    timers += 1
must_be(f"{timers} timers", timers < 500_000, True)
done()
