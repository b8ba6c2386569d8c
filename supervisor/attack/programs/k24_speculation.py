# What the processor can be told not to guess, it is told, for good.
PR_GET_SPECULATION_CTRL = 52
for name, feature in (("store bypass", 0), ("indirect branches", 1)):
    got = libc.prctl(PR_GET_SPECULATION_CTRL, feature, 0, 0, 0)
    # 1: it can be chosen; 2: guessing is on; 8: it is off for good. Negative or 0: this processor or kernel cannot.
    if got > 0 and got & 1:
        must_be(f"{name}, as prctl says", bool(got & 8), True)
done()
