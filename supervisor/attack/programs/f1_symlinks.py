for number, target in enumerate(
    (
        "/etc/shadow",
        "/etc/passwd",
        "/proc/self/environ",
        "../../../etc/passwd",
        "/proc/1/root",
        "/dev/null",
        "/code/main.py",
    )
):
    os.symlink(target, f"/mnt/data/link{number}")
os.mkdir("/tmp/d")
os.symlink("/etc", "/mnt/data/directory")
done()
