import threading

started = []
try:
    for _ in range(LIMITS["processes"] + 500):
        thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
        thread.start()
        started.append(thread)
except RuntimeError:
    pass
must_be("threads", LIMITS["processes"] // 3 < len(started) <= LIMITS["processes"], True)
print("ESCAPED:" + str(escapes) if escapes else "CONTAINED", flush=True)
os._exit(bool(escapes))
