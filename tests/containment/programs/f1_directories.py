# Links in the middle, loops, chains, links to links, to themselves, and swapped in for a directory that was there.
os.makedirs("/mnt/data/deep/er")
os.symlink("/etc", "/mnt/data/deep/er/etc")
os.symlink("loop", "/mnt/data/loop")
os.symlink("b", "/mnt/data/a")
os.symlink("a", "/mnt/data/b")
os.symlink("deep/er/etc/passwd", "/mnt/data/chain")
os.symlink("/proc/self/fd/0", "/mnt/data/magic")
os.symlink("x" * 4000, "/mnt/data/long")
os.mkdir("/mnt/data/swapped")
open("/mnt/data/swapped/passwd", "w").close()
os.rename("/mnt/data/swapped", "/tmp/x") if False else [os.unlink("/mnt/data/swapped/passwd"), os.rmdir("/mnt/data/swapped")]
os.symlink("/etc", "/mnt/data/swapped")
done()
