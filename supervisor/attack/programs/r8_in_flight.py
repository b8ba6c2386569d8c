# Descriptors that are sent and never received are counted too.
left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
right.setblocking(False)
sent = 0
pairs = [(left, right)]
try:
    while sent < 1_000_000:
        try:
            socket.send_fds(pairs[-1][1], [b"x"], [0] * 250)
            sent += 250
        except BlockingIOError:
            pairs.append(socket.socketpair())
            pairs[-1][1].setblocking(False)
except OSError as error:
    must_fail("send", error.errno, errno.ETOOMANYREFS, errno.EMFILE, errno.ENOBUFS)
must_be(f"{sent} descriptors in flight", sent <= 2048, True)
done()
