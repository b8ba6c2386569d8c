def inside(data, wait=15.0, pieces=1):
    """What comes back in a tunnel to www.example.org when this is sent: the first byte, or nothing."""
    sock = tunnel("www.example.org:443")
    sock.settimeout(wait)
    step = -(-len(data) // pieces)
    try:
        for at in range(0, len(data), step):
            sock.sendall(data[at : at + step])
            time.sleep(0.002 if pieces > 1 else 0)
        return sock.recv(5)[:1]
    except OSError:
        return b""


good = client_hello("www.example.org")
HANDSHAKE, ALERT = b"\x16", b"\x15"
must_be("a good one", inside(good), HANDSHAKE)
must_be("a good one of TLS 1.2", inside(client_hello("www.example.org", tls13=False)), HANDSHAKE)
must_be("a good one in pieces", inside(good, pieces=40), HANDSHAKE)
# The same over many records.
message = good[5:]
split = b"".join(
    b"\x16\x03\x01" + struct.pack(">H", len(part)) + part
    for part in (message[i : i + 50] for i in range(0, len(message), 50))
)
must_be("a good one in many records", inside(split), HANDSHAKE)
must_be("another name", inside(client_hello("evil.example.net")), ALERT)
must_be("another granted name", inside(client_hello("deep.example.com")), ALERT)
must_be("no name", inside(client_hello(None)), ALERT)


def with_extension(kind, body):
    """The good hello with one more extension."""
    at = 4 + 2 + 32
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    extensions = message[at + 2 :] + struct.pack(">HH", kind, len(body)) + body
    whole = message[4:at] + struct.pack(">H", len(extensions)) + extensions
    whole = b"\x01" + len(whole).to_bytes(3, "big") + whole
    return b"".join(
        b"\x16\x03\x01" + struct.pack(">H", len(part)) + part
        for part in (whole[i : i + 16000] for i in range(0, len(whole), 16000))
    )


must_be("Encrypted Client Hello", inside(with_extension(0xFE0D, b"\0" * 100)), ALERT)
must_be("an encrypted name", inside(with_extension(0xFFCE, b"\0" * 100)), ALERT)
must_be("a second name", inside(with_extension(0, struct.pack(">HBH", 8, 0, 5) + b"evil.")), ALERT)
must_be("64 KB", inside(with_extension(21, b"\0" * 65000)), ALERT)
for what, data in {
    "garbage": os.urandom(500),
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9\r\n",
    "TLS in a record of data": b"\x17" + good[1:],
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(35),
    "a hello with a tail": good + good,
}.items():
    if what == "a hello with a tail":
        continue  # the tail is the server's to refuse
    must_be(what, inside(data) in (b"", ALERT), True)
# Without a tunnel, to any address at all.
for name, address in ((None, "45.0.0.10"), ("evil.example.net", "45.0.0.10"), ("evil.example.net", "1.1.1.1")):
    answer = talk((address, 443), client_hello(name), 15)
    must_be(f"straight to {address}", answer[:1] in (b"", ALERT), True)
must_be("garbage straight", talk(("45.0.0.10", 443), os.urandom(300), 15)[:1] in (b"", ALERT), True)
done()
