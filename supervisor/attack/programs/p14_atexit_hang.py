# The interpreter never gets to its end.
import atexit

atexit.register(time.sleep, 1000)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("about to end", flush=True)
