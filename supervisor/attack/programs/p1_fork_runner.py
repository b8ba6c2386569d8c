# A process that is another one every millisecond cannot be hit by a pid; the reply must still find it dead.
if os.fork() == 0:
    os.setsid()
    while True:
        if os.fork():
            os._exit(0)
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        try:
            os.open(f"/tmp/{os.getpid()}", os.O_CREAT | os.O_WRONLY)
        except OSError:
            pass
deadline = time.monotonic() + 20
while len(os.listdir("/tmp")) <= 10 and time.monotonic() < deadline:
    time.sleep(0.01)
must_be("it runs", len(os.listdir("/tmp")) > 10, True)
done()
