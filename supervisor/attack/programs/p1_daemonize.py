# What stays behind would write into the workspace for ever; the reply has to come at once, and no file with it.
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2):
            os.close(fd)
        while True:
            time.sleep(0.05)
            os.open("/mnt/data/alive", os.O_CREAT | os.O_WRONLY)
    os._exit(0)
done()
