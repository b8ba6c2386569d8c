import threading
started = []
try:
    for _ in range(1000):
        thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
        thread.start()
        started.append(thread)
except RuntimeError:
    pass
must_be("threads", 50 < len(started) < 140, True)
print("ESCAPED:" + str(escapes) if escapes else "CONTAINED", flush=True)
os._exit(bool(escapes))
