def echoed(name, piece, pieces):
    """How many bytes come back from an echo server before the connection is cut."""
    came = 0
    try:
        with socket.create_connection((name, 9000), 5) as sock:
            sock.settimeout(10)
            for _ in range(pieces):
                sock.sendall(b"x" * piece)
                due = came + piece
                while came < due:
                    data = sock.recv(65536)
                    if not data:
                        return came
                    came += len(data)
    except OSError:
        pass
    return came


must_be("a rule without a budget", echoed("raw.example.org", 10_000, 20), 200_000)
first = echoed("budget.example.org", 10_000, 20)
must_be("the budget of 100000 bytes, both ways", 10_000 <= first <= 60_000, True)
must_be("it is spent", echoed("budget.example.org", 1000, 1), 0)
started = time.monotonic()
with socket.create_connection(("brief.example.org", 9000), 5) as sock:
    sock.settimeout(20)
    came = 0
    try:
        while time.monotonic() - started < 15:
            sock.sendall(b"x")
            if not sock.recv(1):
                break
            time.sleep(0.05)
    except OSError:
        pass
must_be("the time of one connection, 1 s", 0.5 < time.monotonic() - started < 10, True)
done()
