# Locked memory and huge pages: a few pages, no more.
import mmap

area = mmap.mmap(-1, 64 << 20)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
must_fail("mlock 64 MiB", call(149, address, 64 << 20), errno.ENOMEM, EPERM, errno.EAGAIN)
must_fail("mlock2 on fault", call(325, address, 64 << 20, 1), errno.ENOMEM, EPERM, errno.EAGAIN)
must_raise(
    "MAP_LOCKED",
    lambda: mmap.mmap(-1, 64 << 20, flags=0x2000 | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
    errno.EAGAIN,
    EPERM,
)
must_raise(
    "MAP_HUGETLB",
    lambda: mmap.mmap(-1, 2 << 20, flags=0x40000 | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
    errno.ENOMEM,
    EPERM,
)
must_fail(
    "shmget huge",
    0 if libc.shmget(0, 2 << 20, 0o1600 | 0o4000) >= 0 else ctypes.get_errno() or EPERM,
    errno.ENOMEM,
    EPERM,
)
must_be("limit", resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] <= 8 << 20, True)
done()
