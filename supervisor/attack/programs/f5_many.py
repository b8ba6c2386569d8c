# Pipes and sockets in directories, with names like results, some held open by a process that stays.
os.makedirs("/mnt/data/plots")
for number in range(5):
    os.mkfifo(f"/mnt/data/plots/{number}.png")
keeper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
keeper.bind("/mnt/data/plots/report.pdf")
if os.fork() == 0:
    os.setsid()
    fds = [os.open(f"/mnt/data/plots/{number}.png", os.O_RDWR) for number in range(5)]
    time.sleep(600)
time.sleep(0.1)
done()
