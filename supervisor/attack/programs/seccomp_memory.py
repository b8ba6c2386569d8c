# Huge pages come from the whole host's pool; merged pages tell what other sandboxes hold.
import mmap
for size in (0, 21 << 26, 30 << 26):
    flags = 0x40000 | size | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    must_raise(f"MAP_HUGETLB {size:#x}", lambda flags=flags: mmap.mmap(-1, 2 << 20, flags=flags), errno.ENOMEM)
    must_fail(f"MFD_HUGETLB {size:#x}", call(319, b"x", 4 | size), errno.ENOMEM)
    must_fail(f"SHM_HUGETLB {size:#x}", call(29, 0, 2 << 20, 0o1600 | 0o4000 | size), errno.ENOMEM)
area = mmap.mmap(-1, 1 << 20)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
must_fail("MADV_MERGEABLE", call(28, address, 1 << 20, 12), errno.EINVAL)
must_fail("MADV_MERGEABLE behind high bits", call(28, address, 1 << 20, (1 << 32) | 12), errno.EINVAL)
must_fail("PR_SET_MEMORY_MERGE", call(157, 67, 1, 0, 0, 0), errno.EINVAL)
done()
