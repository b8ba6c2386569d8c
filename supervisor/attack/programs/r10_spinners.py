# Hundreds of threads and processes that spin do not hold the end back.
for _ in range(60):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            pass
while True:
    pass
