# The request has narrowed the network down to nothing: what the operator allows is not there.
for name in ("www.example.org", "plain.example.org", "deep.example.com"):
    must_refuse(name, connect(f"{name}:443"))
    must_be(name, https(name, address="45.0.0.10"), None)
must_refuse(
    "plain HTTP",
    status(talk(("45.0.0.10", 80), b"GET /public HTTP/1.1\r\nHost: plain.example.org\r\nConnection: close\r\n\r\n")),
)
must_raise("names", lambda: socket.getaddrinfo("www.example.org", 443))
done()
