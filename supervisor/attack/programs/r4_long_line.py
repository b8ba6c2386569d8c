# One line without an end, invalid UTF-8, NULs and escapes: cut in the middle, never lost at its end.
for _ in range(200):
    sys.stdout.buffer.write(b"\xff\x00\x1b]0;x\x07" * 1000)
sys.stdout.flush()
print()
done()
