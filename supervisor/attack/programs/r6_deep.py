os.mkdir("/mnt/data/closed")
with open("/mnt/data/closed/file", "w") as file:
    file.write("kept")
os.chmod("/mnt/data/closed/file", 0)
os.chmod("/mnt/data/closed", 0)
os.chdir("/mnt/data")
depth = 0
try:
    while depth < 9000:
        os.mkdir("d")
        os.chdir("d")
        depth += 1
except OSError as error:
    must_fail("deep directories", error.errno, errno.ENOSPC)
must_be("thousands deep", 5000 < depth < 9000, True)
done()
