# Orphans are reaped by the jail's init: a thousand of them do not use up the process limit.
for _ in range(20):
    for _ in range(50):
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
        os.wait()
done()
