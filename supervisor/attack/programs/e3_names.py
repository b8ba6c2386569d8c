# Every name is granted; none leads to what it may not.
for name in "private meta loop own cname mapped nat64 sixtofour local6 zero".split():
    must_be(f"{name}.example.com", https(f"{name}.example.com"), None)
    must_refuse(f"CONNECT {name}", connect(f"{name}.example.com:443"))
seen = https("mixed.example.com")
must_be("of several addresses the public one", (seen or {}).get("address"), "45.0.0.10")
for _ in range(20):
    seen = https("rebind.example.com")
    must_be("rebinding", (seen or {}).get("address", "45.0.0.10"), "45.0.0.10")
must_be("a public name works", (https("www.example.org") or {}).get("name"), "www.example.org")
done()
