# A hundred daemons of all kinds, stopped, sleeping and spinning, each in a session of its own.
for number in range(90):
    if os.fork() == 0:
        os.setsid()
        for fd in range(3):
            os.close(fd)
        if number % 3 == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        while number % 3 == 1:
            pass
        while os.getppid() != 1:
            time.sleep(0.01)
        time.sleep(0.3)
        os.open(f"/mnt/data/late{number}", os.O_CREAT | os.O_WRONLY)
        time.sleep(600)
done()
