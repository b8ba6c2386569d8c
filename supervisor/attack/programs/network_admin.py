# The namespace belongs to the jail, but nothing in it has the capability to set it up.
import fcntl

control = socket.socket(type=socket.SOCK_DGRAM)
request = struct.pack("16sH14s8x", b"lo", 1, b"")
for what, number in (
    ("set flags", 0x8914),
    ("set address", 0x8916),
    ("set mtu", 0x8922),
    ("add route", 0x890B),
    ("set name", 0x8923),
    ("add bridge", 0x89A0),
):
    must_raise(what, lambda: fcntl.ioctl(control, number, request + bytes(96)), EPERM, errno.ENOTTY)
must_raise("tun device", lambda: os.open("/dev/net/tun", os.O_RDWR), ENOENT)
must_raise("iptables replace", lambda: control.setsockopt(0, 64, bytes(256)), EPERM, errno.ENOPROTOOPT)
must_raise(
    "ip6tables replace",
    lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).setsockopt(41, 64, bytes(256)),
    EPERM,
    errno.ENOPROTOOPT,
)
for what, option in (("SO_MARK", 36), ("SO_RCVBUFFORCE", 33), ("SO_SNDBUFFORCE", 32), ("SO_DEBUG", 1)):
    must_raise(what, lambda: control.setsockopt(socket.SOL_SOCKET, option, 1), EPERM, EACCES)
must_raise("SO_PRIORITY above 6", lambda: control.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 7), EPERM)
must_raise("IP_TRANSPARENT", lambda: control.setsockopt(0, 19, 1), EPERM)
must_raise("bind to a privileged port", lambda: socket.socket().bind(("127.0.0.1", 80)), EACCES)
for family, protocol in ((2, 1), (10, 58)):
    must_fail("ping socket", call(41, family, 2, protocol), EACCES, EPERM, errno.EAFNOSUPPORT)
done()
