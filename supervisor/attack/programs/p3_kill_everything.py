for number in (signal.SIGKILL, signal.SIGSTOP):
    must_be("kill init", in_child(lambda: os.kill(1, number)), 0)
must_be("init lives", os.path.exists("/proc/1/status"), True)
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    pass
must_be("our own child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), -signal.SIGKILL)
done()
