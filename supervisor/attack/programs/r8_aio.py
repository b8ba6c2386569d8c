# fs.aio-max-nr is one number for the whole host.
context = ctypes.c_ulong()
must_fail("io_setup", call(206, 65536, ctypes.byref(context)), ENOSYS)
must_fail("io_submit", call(209, 0, 0, 0), ENOSYS)
done()
