# Nothing says who we are but the listener: no header, no address, no credential.
for header in (
    "Proxy-Authorization: Basic YWRtaW46YWRtaW4=",
    "X-Forwarded-For: 127.0.0.1",
    "Forwarded: for=10.0.0.1",
    "X-Gaoler-Grant: 0",
):
    answer = talk(PROXY, f"CONNECT evil.example.net:443 HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
    must_refuse(header, status(answer))
for source in ("10.1.2.3", "45.0.0.10", "127.9.9.9", "198.18.0.5"):
    sock = socket.socket()
    sock.bind((source, 0))  # every address is ours here
    sock.connect(PROXY)
    sock.sendall(b"CONNECT evil.example.net:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    must_refuse(f"from {source}", status(sock.recv(4096)))
# No way to the sockets of daemon, jailer and proxy.
with open("/proc/net/unix") as file:
    names = [line.split()[-1] for line in file.readlines()[1:] if len(line.split()) > 7]
must_be("unix sockets of others", [name for name in names if not name.startswith(("@gt-", "/tmp", "/mnt"))], [])
for path in (
    "/run/egress.sock",
    "/run/jailer.sock",
    "/var/run/docker.sock",
    "/run/dbus/system_bus_socket",
    "/tmp/.X11-unix/X0",
    "/run/snapd.socket",
):
    must_raise(path, lambda path=path: socket.socket(socket.AF_UNIX).connect(path))
    must_raise(f"abstract {path}", lambda path=path: socket.socket(socket.AF_UNIX).connect("\0" + path))
done()
