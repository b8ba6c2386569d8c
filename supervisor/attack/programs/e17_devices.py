with open("/proc/net/dev") as file:
    must_be("devices", [line.split(":")[0].strip() for line in file.readlines()[2:]], ["lo"])
must_raise("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
import fcntl

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for name, number in (
    ("SIOCADDRT", 0x890B),
    ("SIOCSIFADDR", 0x8916),
    ("SIOCSIFFLAGS", 0x8914),
    ("SIOCSARP", 0x8955),
    ("SIOCBRADDBR", 0x89A0),
):
    must_raise(name, lambda number=number: fcntl.ioctl(sock, number, struct.pack("16sH22x", b"lo", 0)))
for option, value in ((19, 1), (36, 1), (25, b"lo\0")):  # IP_TRANSPARENT, SO_MARK, SO_BINDTODEVICE
    level = socket.SOL_IP if option == 19 else socket.SOL_SOCKET
    if option != 25:
        must_raise(
            f"option {option}", lambda level=level, option=option, value=value: sock.setsockopt(level, option, value)
        )
done()
