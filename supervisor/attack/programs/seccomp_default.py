# A call that no kernel has yet, and nonsense, kill; a known new one is refused politely.
for number in (512, 600, 1000, 0x7FFFFFFF):
    must_be(f"call {number}", in_child(lambda: call(number, 0, 0, 0, 0, 0, 0)), -signal.SIGSYS)
must_fail("fchmodat2", call(452, -100, b"/tmp", 0, 0), ENOSYS)
done()
