for what, number in (("readv", 310), ("writev", 311)):
    must_be(f"process_vm_{what}", in_child(lambda: call(number, os.getppid(), 0, 0, 0, 0, 0)), -signal.SIGSYS)
done()
