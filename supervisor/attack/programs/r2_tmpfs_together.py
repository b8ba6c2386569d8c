# Each file system stays below its own size; together with memory they are over the one limit.
block = b"x" * (1 << 20)
for directory in ("/mnt/data", "/tmp", "/dev/shm"):
    with open(f"{directory}/fill", "wb", buffering=0) as file:
        try:
            for _ in range((LIMITS["temporary_bytes"] >> 20) - 6):
                file.write(block)
        except OSError as error:
            print(directory, error)
kept = bytearray(LIMITS["memory_bytes"])
for offset in range(0, len(kept), 4096):
    kept[offset] = 1
print("ESCAPED: still here")
