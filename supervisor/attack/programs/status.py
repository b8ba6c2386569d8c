status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
must_be(
    "capabilities",
    {name: int(value, 16) for name, value in status.items() if name.startswith("Cap")},
    dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0),
)
must_be("no_new_privs", status["NoNewPrivs"], "1")
must_be("seccomp", status["Seccomp"], "2")
must_be("uid", status["Uid"].split(), ["1000"] * 4)
must_be("gid", status["Gid"].split(), ["1000"] * 4)
must_be("groups", status["Groups"].split(), [])
must_be("one uid is mapped", open("/proc/self/uid_map").read().split()[0::2], ["1000", "1"])
for number in (21, 12, 7, 1, 24):
    must_fail(
        f"raise capability {number}",
        call(
            126,
            ctypes.create_string_buffer(struct.pack("=II", 0x20080522, 0)),
            ctypes.create_string_buffer(struct.pack("=6I", 1 << number, 1 << number, 0, 0, 0, 0)),
        ),
        EPERM,
    )
done()
