# The address is local and nothing listens: refused at once, by this namespace's own kernel.
for host in ("45.0.0.10", "45.1.0.1", "10.1.2.3", "169.254.169.254", "192.0.2.1", "8.8.8.8", "2606:4700::1111"):
    for port in (22, 25, 853, 5432, 6379, 8080, 8081, 8443, 9001, 65535):
        try:
            socket.create_connection((host, port), 3).close()
        except OSError as error:
            must_be(f"{host}:{port}", error.errno, errno.ECONNREFUSED)
        else:
            escapes.append(f"{host}:{port} is reachable")
# A rule names port 9000, so that one is the proxy's, and leads nowhere without the rule's name.
for host in ("45.0.0.10", "45.1.0.1", "10.1.2.3", "8.8.8.8"):
    must_be(f"{host}:9000", status(talk((host, 9000), b"GET / HTTP/1.0\r\n\r\n")) in (0, 400, 403), True)
for host, port in (
    ("45.0.0.10", 443),
    ("8.8.8.8", 123),
    ("45.0.0.10", 9000),
    ("239.255.255.250", 1900),
    ("45.1.0.1", 8081),
):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(0.2)
    try:
        udp.sendto(b"QUIC or anything", (host, port))
        must_be(f"udp {host}:{port}", udp.recvfrom(100), None)
    except OSError:
        pass  # unreachable, refused, or silence
must_raise("a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
must_raise("ping", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP))
must_raise("SCTP", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132))
must_raise("a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
must_raise("port 443 of our own", lambda: socket.socket().bind(("0.0.0.0", 443)))
must_raise("port 53 of our own", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", 53)))
done()
