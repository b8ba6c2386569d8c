blocks = []
while True:
    blocks.append(bytearray(32 << 20))
