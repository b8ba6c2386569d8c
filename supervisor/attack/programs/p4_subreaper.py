# A subreaper and the death signals do not keep anybody alive.
if os.fork() == 0:
    call(157, 36, 1, 0, 0, 0)
    call(157, 1, 0, 0, 0, 0)
    os.setsid()
    for _ in range(5):
        if os.fork() == 0:
            if os.fork() == 0:
                call(157, 1, signal.SIGCONT, 0, 0, 0)
                while True:
                    time.sleep(0.02)
                    os.open("/mnt/data/orphan", os.O_CREAT | os.O_WRONLY) if os.path.exists("/tmp/go") else None
            os._exit(0)
    while True:
        time.sleep(60)
done()
