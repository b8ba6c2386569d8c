EVIL = b"GET /smuggled HTTP/1.1\r\nHost: evil.example.net\r\n\r\n"
HOST = b"Host: any.example.org\r\n"


def send(data, wait=15):
    return talk(("any.example.org", 80), data, wait)


REFUSED = (
    "both lengths",
    "two lengths",
    "a signed length",
    "a length in hex",
    "an unknown coding",
    "two codings",
)


for what, data in {
    "both lengths": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + EVIL,
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\n" + EVIL,
    "a signed length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nabcde" + EVIL,
    "a length in hex": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n\r\nabcde" + EVIL,
    "an unknown coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + EVIL,
    "two codings": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + EVIL,
    "a space before the colon": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + EVIL,
    "a folded field": b"GET / HTTP/1.1\r\n"
    + HOST
    + b"X: a\r\n\tTransfer-Encoding: chunked\r\nHost\r\n : evil.example.net\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rHost: evil.example.net\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "an old version with chunks": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EVIL,
    "version 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EVIL,
    "a broken chunk": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n5;\n\r\nabcde\r\n-1\r\n"
    + EVIL,
}.items():
    answer = send(data, 15 if what in REFUSED else 3)  # the others may be waited upon for the rest
    first = status(answer)
    if first == 200 and b"/smuggled" in answer:
        escapes.append(f"{what}: smuggled")
    if what in REFUSED:
        must_refuse(what, first)
# A second request on the same connection is looked at like the first.
keep = b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n"
answer = send(keep + EVIL[:-2] + b"Connection: close\r\n\r\n")
must_be("the second request", (status(answer), answer.count(b"HTTP/1.1 200"), b"HTTP/1.1 40" in answer), (200, 1, True))
answer = send(keep + b"GET /second HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
must_be("two good ones", answer.count(b"HTTP/1.1 200"), 2)
answer = talk(
    PROXY,
    b"GET http://any.example.org/ HTTP/1.1\r\n"
    + HOST
    + b"\r\nGET http://evil.example.net/smuggled HTTP/1.1\r\nHost: evil.example.net\r\nConnection: close\r\n\r\n",
    15,
)
must_be("the second host", (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 403")), (1, 1))
# What is named hop-by-hop does not take the framing along.
answer = send(
    b"POST /hop HTTP/1.1\r\n" + HOST + b"Connection: content-length, host, close\r\nContent-Length: 5\r\n\r\nabcde"
)
must_be(
    "hop-by-hop",
    (status(answer), json.loads(answer.partition(b"\r\n\r\n")[2])["headers"].get("content-length")),
    (200, "5"),
)
# Protocols are not switched.
answer = send(
    b"GET /up HTTP/1.1\r\n"
    + HOST
    + b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n"
)
must_be(
    "h2c",
    (
        status(answer),
        "upgrade" in json.loads(answer.partition(b"\r\n\r\n")[2] or b'{"headers":{"upgrade":1}}')["headers"],
    ),
    (200, False),
)
answer = send(
    b"GET /up HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n" + EVIL
)
must_refuse("websocket", status(answer))
must_refuse(
    "CONNECT inside", status(send(b"CONNECT evil.example.net:443 HTTP/1.1\r\nHost: evil.example.net:443\r\n\r\n"))
)
done()
