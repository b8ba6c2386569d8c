os.mkfifo("/mnt/data/fifo")
server = socket.socket(socket.AF_UNIX)
server.bind("/mnt/data/socket")
done()
