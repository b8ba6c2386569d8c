for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
print("waiting", flush=True)
while True:
    time.sleep(1)
