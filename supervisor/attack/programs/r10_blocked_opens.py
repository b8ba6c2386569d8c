# A hundred threads that hang in the open of a pipe that nobody writes to.
import threading

os.mkfifo("/tmp/never")
for _ in range(100):
    threading.Thread(target=lambda: open("/tmp/never", "rb")).start()
open("/tmp/never", "rb")
print("ESCAPED: went on")
