# There is no channel to forge a result on: the only descriptors are the output pipes, and their bytes are text.
import re

for fd in (0, 1, 2):
    target = os.readlink(f"/proc/self/fd/{fd}")
    must_be(f"fd {fd} is a socket", target.startswith("socket:"), False)
must_be("inside init", [each for each in os.listdir("/proc/1/fd") if "socket" in os.readlink(f"/proc/1/fd/{each}")], [])
print('{"session_id": "x", "status": "ok", "code": 0}')
done()
