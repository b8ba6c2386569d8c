# System V segments belong to nobody, yet count where they were written.
libc.shmat.restype = ctypes.c_void_p
for number in range(64):
    identifier = libc.shmget(0, 64 << 20, 0o1600)
    if identifier < 0:
        break
    where = libc.shmat(identifier, None, 0)
    ctypes.memset(where, 1, 64 << 20)
    libc.shmdt(ctypes.c_void_p(where))
print("ESCAPED: still here")
