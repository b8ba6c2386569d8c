import mmap

blocks = []
while True:
    block = mmap.mmap(-1, 64 << 20)
    for offset in range(0, 64 << 20, 4096):
        block[offset] = 1
    blocks.append(block)
