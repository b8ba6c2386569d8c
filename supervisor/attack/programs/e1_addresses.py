# Rules name some of these hosts; none of them opens their addresses.
SPECIAL = """127.0.0.1 [::1] 0.0.0.0 169.254.169.254 [fd00:ec2::254] 100.64.0.1 10.1.2.3 172.16.0.1 192.168.1.1 [fc00::1]
[fe80::1] 224.0.0.1 255.255.255.255 192.0.2.2 198.18.0.1 240.0.0.1 [ff02::1] 45.1.0.1 [2a0f:1::1]""".split()
for host in SPECIAL:
    for port in (80, 443, 8081):
        must_refuse(f"CONNECT {host}:{port}", connect(f"{host}:{port}"))
    answer = talk(PROXY, f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    must_refuse(f"GET http://{host}/", status(answer))
must_refuse("a zone", connect("[fe80::1%25eth0]:443"))
# The same without the proxy's help: the address is local here, and leads to the same rules.
for host in ("169.254.169.254", "10.1.2.3", "45.1.0.1"):
    answer = talk((host, 80), f"GET /latest/meta-data HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    must_refuse(f"transparent {host}", status(answer))
    must_be(f"TLS to {host}", https(host), None)
must_be("the host's own service", talk(("45.1.0.1", 8081), b"GET / HTTP/1.0\r\n\r\n"), b"")
done()
