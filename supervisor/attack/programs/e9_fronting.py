# One name outside, another one inside.
www, plain = socket.gethostbyname("www.example.org"), socket.gethostbyname("plain.example.org")
must_be("the address of one, the name of another", https("deep.example.com", address=www), None)
must_be("the address of one, its name", (https("www.example.org", address=www) or {}).get("name"), "www.example.org")
for what, host in {
    "another host": "any.example.org",
    "an address": "169.254.169.254",
    "a refused host": "evil.example.net",
    "two dots": "plain.example.org..",
    "with a port": "plain.example.org:8080",
    "with credentials": "a@plain.example.org",
}.items():
    answer = talk((plain, 80), f"GET /public HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    must_refuse(what, status(answer))
answer = talk((plain, 80), b"GET /public HTTP/1.1\r\nHost: plain.example.org.\r\nConnection: close\r\n\r\n")
must_be(
    "a final dot is the same host",
    (status(answer), json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]["host"]),
    (200, "plain.example.org"),
)
for head in (
    b"GET http://plain.example.org/public HTTP/1.1\r\nHost: any.example.org\r\n\r\n",
    b"GET http://any.example.org/ HTTP/1.1\r\nHost: evil.example.net\r\n\r\n",
    b"GET /public HTTP/1.1\r\nHost: plain.example.org\r\nHost: any.example.org\r\n\r\n",
    b"GET /public HTTP/1.1\r\nX-A: b\r\n\r\n",
):
    must_refuse(repr(head), status(talk(PROXY, head, 3)), (400, 403))
    must_refuse(repr(head), status(talk((plain, 80), head, 3)), (400, 403))
# What the rule for plain.example.org does not allow: other methods, other paths, however they are written.
for request in (
    "POST /public",
    "DELETE /public",
    "TRACE /public",
    "GET /private",
    "GET /public/../private",
    "GET /public/%2e%2e/private",
    "GET /public/..%2fprivate",
    "GET /public/..;/private",
    "GET //private",
    "GET /publicity",
    "GET /PUBLIC",
    "GET /public\\..\\private",
    "GET /public/%252e%252e/private",
    "get /public",
    "GET /%70ublic",
):
    answer = talk(
        (plain, 80),
        f"{request} HTTP/1.1\r\nHost: plain.example.org\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode(),
    )
    must_refuse(request, status(answer))
done()
