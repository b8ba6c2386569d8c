# Full buffers of unix sockets are kernel memory; they count, whoever holds them.
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
for _ in range(40):
    if os.fork() == 0:
        kept = []
        try:
            while True:
                left, right = socket.socketpair()
                kept += [left, right]
                for end in (left, right):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
                    end.setblocking(False)
                    try:
                        while True:
                            end.send(b"x" * 65536)
                    except BlockingIOError:
                        pass
        except OSError:
            pass
        time.sleep(60)
time.sleep(10)
print("ESCAPED: still here")
