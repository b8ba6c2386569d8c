names = [
    b"new\nline",
    b"tab\there",
    b"esc\x1b[31m",
    b"\xff\xfeinvalid",
    "exe.\u202egpj".encode(),
    b"back\\slash",
    b"r\rr",
]
for name in names:
    os.close(os.open(b"/mnt/data/" + name, os.O_CREAT | os.O_WRONLY))
done()
