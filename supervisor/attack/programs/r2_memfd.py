kept = []
for number in range(64):
    fd = os.memfd_create("x")
    kept.append(fd)
    for _ in range(64):
        os.write(fd, b"x" * (1 << 20))
print("ESCAPED: still here")
