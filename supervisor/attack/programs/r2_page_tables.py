# One byte of each 2 MiB of a huge reservation: next to no memory in pages, all in page tables.
import mmap

area = mmap.mmap(
    -1, 1 << 45, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ | mmap.PROT_WRITE
)
area.madvise(mmap.MADV_NOHUGEPAGE)
for offset in range(0, 1 << 45, 2 << 20):
    area[offset]
print("ESCAPED: still here")
