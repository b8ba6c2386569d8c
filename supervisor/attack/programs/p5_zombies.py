# Orphans are reaped by the jail's init: several times as many as there may be processes do not use up the limit.
for _ in range(8):
    for _ in range(50):
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
        os.wait()
done()
