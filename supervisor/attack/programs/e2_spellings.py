METADATA = """2852039166 0251.0376.0251.0376 0251.254.169.0376 0xa9fea9fe 0xA9.0xFE.0xA9.0xFE 169.16689662 169.254.43518
169.254.169.254. 169%2e254%2e169%2e254 169。254。169。254 １６９.２５４.１６９.２５４ [::ffff:a9fe:a9fe] [::ffff:169.254.169.254]
[64:ff9b::a9fe:a9fe] [2002:a9fe:a9fe::1] [2001:0:a9fe:a9fe::1] [::169.254.169.254] 127.1 0 0x0 017700000001 2130706433
[0:0:0:0:0:ffff:7f00:1] xn--169-254-169-254-x [::1%lo] ::1 0177.1""".split()
for host in METADATA:
    must_refuse(f"CONNECT {host}", connect(f"{host}:80"))
    must_refuse(f"CONNECT {host}", connect(f"{host}:443"))
# The proxy's reading of a Host field is no other.
for host in ("2852039166", "0251.0376.0251.0376", "127.1", "[::ffff:a9fe:a9fe]", "0x7f.1"):
    answer = talk(("45.0.0.10", 80), f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    must_refuse(f"Host: {host}", status(answer))
done()
