for target in (
    b"www.example.org\0.evil.net:443",
    b"www.example.org:0",
    b"www.example.org:65536",
    b"www.example.org:+443",
    b"www.example.org: 443",
    b"www.example.org:443:80",
    b"www.example.org:0443",
    b"user@www.example.org:443",
    b"www.example.org#.evil.net:443",
    b"www.example.org\\.evil.net:443",
    b"www.example.org/:443",
    b"www.example.org?x:443",
    b"www.example.org",
    b":443",
    b"[www.example.org]:443",
    b"www..example.org:443",
    b"-www.example.org:443",
    b"www.example.org:443 HTTP/1.1\r\nX: y\r\n\r\nCONNECT evil.example.net:443",
    b"http://www.example.org:443",
    b"www.example.org%00:443",
    b"www.example.org\x7f:443",
    b"www.example.org\t:443",
    b"*",
    b"/",
    b"a" * 300 + b".example.org:443",
    "www.ex\N{SOFT HYPHEN}ample.org\N{ZERO WIDTH SPACE}.evil.net:443".encode(),
):
    must_refuse(f"CONNECT {target[:60]!r}", connect(target), (400, 403, 0))
for url in (
    "http://plain.example.org@evil.example.net/",
    "http://evil.example.net#@plain.example.org/",
    "https://plain.example.org/",
    "ftp://plain.example.org/",
    "http://plain.example.org:0/",
    "http://plain.example.org\\@evil.example.net/",
    "http:///x",
    "plain.example.org",
    "http:plain.example.org",
    "http://plain.example.org:80:81/",
):
    answer = talk(PROXY, f"GET {url} HTTP/1.1\r\nHost: plain.example.org\r\nConnection: close\r\n\r\n".encode())
    must_refuse(f"GET {url}", status(answer))
done()
