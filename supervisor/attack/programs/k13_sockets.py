families = {
    "netlink": 16,
    "packet": 17,
    "alg": 38,
    "rxrpc": 33,
    "vsock": 40,
    "key": 15,
    "tipc": 30,
    "bluetooth": 31,
    "can": 29,
    "xdp": 44,
    "smc": 43,
}
for name, family in families.items():
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        must_fail(f"AF_{name} {kind}", call(41, family, int(kind), 0), errno.EAFNOSUPPORT)
for family in (2, 10):
    must_fail("raw", call(41, family, 3, 1), errno.EAFNOSUPPORT)
    must_fail("raw with flags", call(41, family, 3 | 0o2000000, 255), errno.EAFNOSUPPORT)
must_fail("family with high bits", call(41, (1 << 32) | 16, 3, 0), errno.EAFNOSUPPORT)
must_fail("socketpair inet", call(53, 2, 1, 0, ctypes.create_string_buffer(8)), errno.EAFNOSUPPORT)
left, right = socket.socketpair()
left.send(b"x")
must_be("unix sockets work", right.recv(1), b"x")
done()
