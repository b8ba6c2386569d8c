# Put in front of every hostile Python program: raw system calls, and an honest end.
import ctypes, errno, os, resource, signal, socket, stat, struct, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
escapes = []


def call(number, *arguments):
    """Make a raw system call; return its errno, 0 for success."""
    ctypes.set_errno(0)
    arguments = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *arguments) < 0 else 0


def must_fail(what, got, *allowed):
    """The attack has to have failed, in one of the ways that are allowed."""
    if got == 0 or (allowed and got not in allowed):
        escapes.append(f"{what}: errno {got} {errno.errorcode.get(got, 'success')}")


def must_raise(what, attack, *allowed):
    """The attack, as a function, has to raise OSError."""
    try:
        result = attack()
    except OSError as error:
        must_fail(what, error.errno or 1, *allowed)
    else:
        escapes.append(f"{what}: succeeded with {result!r:.100}")


def must_be(what, got, wanted):
    if got != wanted:
        escapes.append(f"{what}: {got!r:.200}, not {wanted!r:.200}")


def in_child(attack):
    """Run an attack that may kill; return the wait status decoded: exit code or -signal."""
    pid = os.fork()
    if pid == 0:
        try:
            attack()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def done():
    if escapes:
        print("ESCAPED:", "; ".join(escapes))
        sys.exit(1)
    print("CONTAINED")


EPERM, ENOSYS, EACCES, EROFS, ENOENT = errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EROFS, errno.ENOENT
# ---- the program ----
