# Nothing in the workspace can be made to resist its removal.
import fcntl

fd = os.open("/mnt/data/file", os.O_CREAT | os.O_RDWR)
for what, flag in (("immutable", 0x10), ("append only", 0x20)):
    must_raise(what, lambda: fcntl.ioctl(fd, 0x40086602, struct.pack("L", flag)), EPERM, errno.ENOTTY, errno.EOPNOTSUPP)
capability = struct.pack("=5I", 0x02000001, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
for what, name in (("file capabilities", "security.capability"), ("trusted", "trusted.x")):
    must_raise(what, lambda: os.setxattr("/mnt/data/file", name, capability), EPERM, errno.EOPNOTSUPP)
for what, uid in (("root", 0), ("nobody", 65534), ("the next sandbox", 1001)):
    must_raise(f"give a file to {what}", lambda: os.chown("/mnt/data/file", uid, -1), EPERM, errno.EINVAL)
    must_raise(f"give a file to the group of {what}", lambda: os.chown("/mnt/data/file", -1, uid), EPERM, errno.EINVAL)
os.unlink("/mnt/data/file")
done()
