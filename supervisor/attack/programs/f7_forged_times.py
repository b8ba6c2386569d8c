# Times are forged to before and after everything; the files are results all the same.
for name, when in (("future.txt", 1 << 33), ("past.txt", 0), ("before.txt", -(1 << 30))):
    with open(f"/mnt/data/{name}", "w") as file:
        file.write("x")
    os.utime(f"/mnt/data/{name}", (when, when))
done()
