# What other sandboxes do with the shared system files cannot be watched.
for what, number in (("inotify_init", 253), ("inotify_init1", 294), ("inotify_add_watch", 254)):
    must_fail(what, call(number, 0, b"/usr/bin", 0xFFF), ENOSYS)
must_fail("fanotify_init", call(300, 0, 0), EPERM)
done()
