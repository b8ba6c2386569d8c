must_be("core limit", resource.getrlimit(resource.RLIMIT_CORE), (0, 0))
must_be("a crash", in_child(lambda: os.kill(os.getpid(), signal.SIGSEGV)), -signal.SIGSEGV)
must_be(
    "core files", [name for directory in ("/mnt/data", "/tmp") for name in os.listdir(directory) if "core" in name], []
)
done()
