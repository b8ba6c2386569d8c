attacks = {
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, 0, 0, 0),
    "delete_module": (176, b"x", 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "kexec_file_load": (320, 0, 0, 0, 0, 0),
    "swapon": (167, b"/tmp/x", 0),
    "swapoff": (168, b"/tmp/x"),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0x4321FEDC, 0),
    "acct": (163, b"/tmp/x"),
    "quotactl": (179, 0, b"/", 0, 0),
    "syslog": (103, 3, 0, 0),
    "settimeofday": (164, 0, 0),
    "clock_settime": (227, 0, 0),
    "adjtimex": (159, ctypes.create_string_buffer(256)),
    "clock_adjtime": (305, 0, ctypes.create_string_buffer(256)),
    "iopl": (172, 3),
    "ioperm": (173, 0, 1, 1),
    "modify_ldt": (154, 1, ctypes.create_string_buffer(16), 16),
    "sethostname": (170, b"x", 1),
    "setdomainname": (171, b"x", 1),
    "vhangup": (153,),
    "personality no-randomize": (135, 0x0040000),
    "personality read-implies-exec": (135, 0x0400000),
    "personality high bits": (135, (1 << 32) | 0x0040000),
}
for name, arguments in attacks.items():
    must_fail(name, call(*arguments), EPERM)
must_be("personality query", call(135, 0xFFFFFFFF), 0)
done()
