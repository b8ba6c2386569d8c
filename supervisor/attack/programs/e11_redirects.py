import urllib.error
import urllib.request

# A granted server sends us on to where we may not go: each hop is looked at anew.
for where in ("metadata", "loopback", "refused"):
    try:
        answer = urllib.request.urlopen(f"http://any.example.org/redirect-{where}", timeout=5)
        escapes.append(f"{where}: {answer.status} {answer.url}")
    except urllib.error.HTTPError as error:
        must_be(where, error.code, 403)
    except OSError:
        pass  # its name has no address, or nobody listens there
try:
    urllib.request.urlopen("http://127.0.0.1:8081/", timeout=5)
    escapes.append("the host's loopback")
except OSError:
    pass
done()
