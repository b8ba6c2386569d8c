# Much of what ordinary programs do, once each: the profile has to have room for all of it.
import array, asyncio, concurrent.futures, ctypes, curses, dbm, faulthandler, fcntl, gzip, hashlib, http.server, io, json
import locale, logging, lzma, mmap, multiprocessing, os, pathlib, pickle, platform, pwd, queue, random, resource, sched
import secrets, select, selectors, shutil, signal, socket, sqlite3, ssl, stat, string, subprocess, sys, tarfile, tempfile
import termios, threading, time, tty, unicodedata, urllib.request, uuid, zipfile, zlib, zoneinfo, datetime
from multiprocessing import shared_memory


def files():
    with tempfile.TemporaryDirectory() as place:
        p = pathlib.Path(place)
        (p / "a").write_bytes(b"x" * 100_000)
        os.link(p / "a", p / "b")
        os.symlink("a", p / "c")
        os.rename(p / "b", p / "d")
        os.mkfifo(p / "fifo")
        shutil.copy2(p / "a", p / "e")
        shutil.copytree(p, p / "tree", ignore=shutil.ignore_patterns("tree", "fifo"))
        os.chmod(p / "a", 0o600)
        os.utime(p / "a")
        os.truncate(p / "a", 5)
        os.statvfs(p)
        os.access(p, os.R_OK)
        with open(p / "a", "r+b") as f, open(p / "out", "wb") as g:
            fcntl.flock(f, fcntl.LOCK_EX)
            fcntl.lockf(f, fcntl.LOCK_UN)
            os.fsync(f.fileno())
            os.posix_fallocate(f.fileno(), 0, 4096)
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            os.pread(f.fileno(), 3, 0)
            os.pwrite(f.fileno(), b"z", 1)
            os.copy_file_range(f.fileno(), g.fileno(), 10)
            os.sendfile(g.fileno(), f.fileno(), 0, 10)
            os.preadv(f.fileno(), [bytearray(4)], 0)
            f.isatty()
            os.get_blocking(f.fileno())
            with mmap.mmap(f.fileno(), 0) as m:
                m[0:2] = b"ab"
                m.flush()
                m.madvise(mmap.MADV_DONTNEED)
        for attempt in (
            lambda: os.setxattr(p / "a", "user.x", b"1"),
            lambda: os.listxattr(p / "a"),
            lambda: os.chown(p / "a", os.getuid(), os.getgid()),
        ):
            try:
                attempt()
            except OSError:
                pass
        list(os.walk(p))
        list(os.scandir(p))
        os.fwalk(p)
        for kind in ("w:gz", "w:xz", "w:bz2"):
            with tarfile.open(p / "t", kind) as t:
                t.add(p / "a", "a")
        with zipfile.ZipFile(p / "z", "w", zipfile.ZIP_DEFLATED) as z:
            z.write(p / "a", "a")
        with dbm.open(str(p / "dbm"), "c") as d:
            d["a"] = "b"
        db = sqlite3.connect(p / "db")
        db.execute("pragma journal_mode=wal")
        db.execute("create table t(a)")
        db.executemany("insert into t values (?)", [(i,) for i in range(1000)])
        db.commit()
        db.execute("vacuum")
        db.close()


def threads():
    q = queue.Queue()
    lock = threading.RLock()
    done = threading.Event()

    def work():
        with lock:
            q.put(threading.get_ident())
        done.wait(5)

    all_ = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in all_]
    done.set()
    [t.join() for t in all_]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(hashlib.sha256, [b"x" * 10_000] * 20))
    threading.Timer(0.01, lambda: None).start()
    sched.scheduler(time.time, time.sleep).run()


def square(n):
    return n * n


def fill(name):
    block = shared_memory.SharedMemory(name)
    block.buf[0] = 7
    block.close()


def processes():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(square, range(10))[-1] == 81
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        list(pool.map(square, range(4)))
    block = shared_memory.SharedMemory(create=True, size=4096)
    child = multiprocessing.get_context("fork").Process(target=fill, args=(block.name,))
    child.start()
    child.join()
    assert block.buf[0] == 7
    block.close()
    block.unlink()
    m = multiprocessing.get_context("fork").Manager()
    d = m.dict()
    d["a"] = 1
    m.shutdown()
    assert subprocess.run(["bash", "-c", "ls / | wc -l; exit 3"], capture_output=True).returncode == 3
    subprocess.run("sort | uniq", shell=True, input=b"b\na\n", stdout=subprocess.DEVNULL, check=True)
    p = subprocess.Popen(["sleep", "30"], start_new_session=True, preexec_fn=lambda: os.nice(1))
    p.terminate()
    p.wait()
    subprocess.run([sys.executable, "-c", "import numpy, pandas"], check=True)
    pid = os.fork()
    if pid == 0:
        os._exit(4)
    fd = os.pidfd_open(pid)
    select.poll().register(fd)
    assert os.waitpid(pid, 0)[1] >> 8 == 4
    os.close(fd)
    os.posix_spawn("/bin/true", ["true"], {})
    os.wait()
    os.sched_getaffinity(0)
    os.sched_yield()
    os.getpriority(os.PRIO_PROCESS, 0)
    resource.getrusage(resource.RUSAGE_CHILDREN)
    resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
    os.times()
    os.getloadavg()
    os.cpu_count()


def network():
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((address, 0), family=family) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with socket.create_connection(server.getsockname()[:2]) as c, server.accept()[0] as s:
                c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                c.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                c.sendmsg([b"a", b"b"])
                s.recvmsg(10)
                c.shutdown(socket.SHUT_WR)
                s.getpeername()
                s.settimeout(1)
                s.recv(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b:
        a.bind(("127.0.0.1", 0))
        b.sendto(b"x", a.getsockname())
        a.recvfrom(10)
        b.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    one, two = socket.socketpair()
    socket.send_fds(one, [b"x"], [0])
    os.close(socket.recv_fds(two, 1, 1)[1][0])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    urllib.request.urlopen(url).read()
    import requests

    requests.get(url, timeout=5)
    server.shutdown()
    server.server_close()
    for attempt in (
        lambda: socket.getaddrinfo("nowhere.invalid", 80),
        lambda: socket.gethostbyname(socket.gethostname()),
        socket.if_nameindex,
    ):
        try:
            attempt()
        except OSError:
            pass
    ssl.create_default_context()


async def asynchronous():
    async def serve(r, w):
        w.write(await r.readline())
        w.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    r, w = await asyncio.open_connection(*server.sockets[0].getsockname())
    w.write(b"x\n")
    await r.read()
    w.close()
    server.close()
    p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    await p.communicate(b"abc")
    await asyncio.gather(asyncio.sleep(0.01), asyncio.to_thread(time.sleep, 0.01))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.01)


def signals_and_time():
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    signal.pause()
    signal.alarm(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.kill(os.getpid(), signal.SIGUSR2)
    signal.sigwaitinfo([signal.SIGUSR2])
    for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_PROCESS_CPUTIME_ID):
        time.clock_getres(clock)
    time.sleep(0.01)
    time.tzset()
    datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Berlin"))
    time.thread_time()
    for name in ("", "C", "C.UTF-8"):
        locale.setlocale(locale.LC_ALL, name)
    platform.platform()
    platform.libc_ver()
    os.uname()
    pwd.getpwuid(os.getuid())
    os.getgroups()
    faulthandler.enable()
    secrets.token_bytes(8)
    uuid.uuid1()
    uuid.uuid4()
    random.seed()
    fd = os.eventfd(1)
    os.eventfd_read(fd)
    fd = os.memfd_create("x")
    os.write(fd, b"x")
    for attempt in (
        lambda: os.openpty(),
        lambda: os.get_terminal_size(0),
        lambda: termios.tcgetattr(0),
        lambda: os.ttyname(0),
        os.getlogin,
    ):
        try:
            attempt()
        except OSError:
            pass
        except termios.error:
            pass
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda a, b: 0)
    ctypes.CDLL(None).qsort(ctypes.create_string_buffer(8), 2, 4, callback)
    with selectors.DefaultSelector() as s:
        s.register(os.pipe()[0], selectors.EVENT_READ)
        s.select(0.01)


def packages():
    import numpy as np, pandas as pd, scipy.optimize, scipy.sparse, sklearn.ensemble, seaborn, sympy, PIL.Image, openpyxl, docx, pptx
    import reportlab.pdfgen.canvas, pypdf, lxml.etree, bs4, plotly.graph_objects, xlsxwriter, joblib, dill, zstandard, graphviz
    from matplotlib import pyplot

    big = np.ones(40_000_000)
    big.sum()
    del big
    np.linalg.svd(np.random.rand(200, 200))
    np.save("/tmp/a.npy", np.eye(3))
    np.memmap("/tmp/m", mode="w+", shape=100)[0] = 1
    frame = pd.DataFrame({"a": range(1000), "b": list("xyzw") * 250})
    frame.groupby("b").describe()
    frame.to_csv("/tmp/f.csv")
    pd.read_csv("/tmp/f.csv")
    frame.to_excel("/tmp/f.xlsx")
    pd.read_excel("/tmp/f.xlsx")
    frame.to_pickle("/tmp/f.pickle")
    seaborn.histplot(frame, x="a")
    pyplot.savefig("/tmp/c.png")
    pyplot.savefig("/tmp/c.svg")
    pyplot.savefig("/tmp/c.pdf")
    pyplot.close("all")
    scipy.optimize.minimize(lambda x: (x**2).sum(), [1.0, 2.0])
    sklearn.ensemble.RandomForestClassifier(10, n_jobs=2).fit(np.random.rand(50, 3), [0, 1] * 25)
    joblib.Parallel(2, "threading")(joblib.delayed(square)(i) for i in range(5))
    joblib.Parallel(2)(joblib.delayed(abs)(i) for i in range(5))
    x = sympy.Symbol("x")
    sympy.integrate(sympy.sin(x) ** 2, x)
    PIL.Image.open("/tmp/c.png").convert("RGB").resize((10, 10)).save("/tmp/c.jpg")
    d = docx.Document()
    d.add_paragraph("a")
    d.save("/tmp/d.docx")
    pptx.Presentation().save("/tmp/p.pptx")
    c = reportlab.pdfgen.canvas.Canvas("/tmp/r.pdf")
    c.drawString(1, 1, "a")
    c.save()
    pypdf.PdfReader("/tmp/r.pdf")
    lxml.etree.fromstring("<a/>")
    bs4.BeautifulSoup("<p>a", "lxml")
    plotly.graph_objects.Figure().to_json()
    dill.dumps(lambda: 1)


for part in (files, threads, processes, network, lambda: asyncio.run(asynchronous()), signals_and_time, packages):
    part()
print("done")
