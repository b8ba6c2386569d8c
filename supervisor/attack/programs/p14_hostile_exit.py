import atexit, builtins

atexit.register(time.sleep, 1000)
builtins.print = None
sys.stdout = None
os.write(1, b"CONTAINED\n")
os._exit(0)
