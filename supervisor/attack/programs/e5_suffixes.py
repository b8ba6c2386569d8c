for name in (
    "evilexample.com",
    "example.com",
    "www.example.org.evil.net",
    "www.example.org.evil.example.net",
    "example.org",
    "xwww.example.org",
    "www-example.org",
    "wwwxexample.org",
    "a.www.example.org",
    "com",
    "*.example.com",
    ".example.com",
    "example.com.",
    "xn--exmple-cua.com",
    "www.examp1e.org",
):
    must_refuse(name, connect(f"{name}:443"))
    must_be(
        name, https("www.example.org", server_name=name, address="45.0.0.10") if name[0] not in "*." else None, None
    )
# One spelling of what is granted is as good as another.
for name in ("www.example.org", "WWW.Example.ORG", "www.example.org.", "deep.down.example.com"):
    must_be(name, connect(f"{name}:443"), 200)
must_be("beyond ASCII", connect("ｗｗｗ.example.org:443"), 400)
done()
