must_fail("mount tmpfs", call(165, b"t", b"/tmp", b"tmpfs", 0, None), EPERM)
must_fail("mount proc", call(165, b"p", b"/mnt/data", b"proc", 0, None), EPERM)
must_fail("bind", call(165, b"/usr", b"/mnt/data", None, 4096, None), EPERM)
must_fail("remount /usr writable", call(165, None, b"/usr", None, 32 | 4096, None), EPERM)
must_fail("umount", call(166, b"/proc", 2), EPERM)
must_fail("pivot_root", call(155, b"/", b"/tmp"), EPERM)
for what, number in (
    ("open_tree", 428),
    ("move_mount", 429),
    ("fsopen", 430),
    ("fsconfig", 431),
    ("fsmount", 432),
    ("fspick", 433),
    ("mount_setattr", 442),
):
    must_fail(what, call(number, -100, b"/", 0, 0, 0, 0), EPERM)
done()
