must_be("interfaces", [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]], ["lo"])
must_be("routes", len(open("/proc/net/route").readlines()), 1)
for address in (("192.0.2.1", 80), ("169.254.169.254", 80), ("10.0.0.1", 22), ("198.51.100.7", 443)):
    with socket.socket() as attempt:
        attempt.settimeout(2)
        must_raise(f"connect {address}", lambda: attempt.connect(address), errno.ENETUNREACH)
    with socket.socket(type=socket.SOCK_DGRAM) as attempt:
        must_raise(f"send {address}", lambda: attempt.sendto(b"x", address), errno.ENETUNREACH)
with socket.socket(socket.AF_INET6) as attempt:
    must_raise(
        "connect v6", lambda: attempt.connect(("2001:db8::1", 80)), errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES
    )
with socket.socket() as attempt:
    must_raise("the daemon's port on loopback", lambda: attempt.connect(("127.0.0.1", 8000)), errno.ECONNREFUSED)
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname()).close()
must_be("abstract sockets of the host", [line for line in open("/proc/net/unix").readlines()[1:] if "@" in line], [])
done()
