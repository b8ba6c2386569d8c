# Every port of both loopbacks, and what goes out without a route: multicast, broadcast, link-local, names.
for address in ("127.0.0.1", "127.0.0.53", "127.255.255.254"):
    for port in range(1, 65536, 1 if address == "127.0.0.1" else 61):
        with socket.socket() as attempt:
            got = attempt.connect_ex((address, port))
            # A port above the privileged ones may meet itself: TCP's simultaneous open.
            if got == 0 and attempt.getsockname() != attempt.getpeername() or got not in (0, errno.ECONNREFUSED):
                must_fail(f"connect {address}:{port}", got, errno.ECONNREFUSED)
for target in (
    "224.0.0.251",
    "239.255.255.250",
    "255.255.255.255",
    "1.1.1.1",
    "8.8.8.8",
    "172.17.0.1",
    "100.64.0.1",
    "169.254.169.254",
):
    with socket.socket(type=socket.SOCK_DGRAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        must_raise(f"send {target}", lambda: attempt.sendto(b"x", (target, 53)), errno.ENETUNREACH)
for target in ("2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1", "fd00:ec2::254"):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as attempt:
        must_raise(
            f"send {target}", lambda: attempt.sendto(b"x", (target, 53)), errno.ENETUNREACH, errno.EADDRNOTAVAIL, EACCES
        )
try:
    socket.getaddrinfo("example.com", 443)
    escapes.append("a name was resolved")
except socket.gaierror:
    pass
done()
