for what, request in (("traceme", 0), ("attach", 16), ("seize", 0x4206)):
    must_be(f"ptrace {what}", in_child(lambda: call(101, request, os.getppid(), 0, 0)), -signal.SIGSYS)
done()
