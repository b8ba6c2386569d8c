# Odd names that harm nobody are kept exactly as they are.
for name in (
    b"-rf",
    b"%2e%2e%2f",
    b"CON",
    "\u00e9".encode(),
    "e\u0301".encode(),
    b"a",
    b"A",
    b"x" * 200,
    b"~",
    b"..x",
    b"a;b",
    b"$(id)",
):
    with open(b"/mnt/data/" + name, "wb") as file:
        file.write(name)
done()
