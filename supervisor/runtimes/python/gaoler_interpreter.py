"""The interpreter of a cell: waits for code on a socket, runs it, and says how it went.

It is forked from a zygote that has the profile's libraries imported, or started afresh where the policy wants that;
either way it runs as the sandbox's user inside the jail before it sees a byte of anybody's code. Nothing here is a
boundary: user code runs in this very process and may do to it what it likes. The jailer bounds and checks whatever
comes back, and a process that breaks the conversation only loses itself.

One JSON object a packet on a ``SOCK_SEQPACKET``, descriptors beside it:

``script``   run ``main`` as ``python3 main`` would and end with its status            (stdin, stdout, stderr)
``tools``    the same, with tools of the caller's at hand; or a bash script (stdin, stdout, stderr, link)
``cell``     run it in the lasting namespace, show the last expression, answer         (stdin, stdout, stderr)
             with ``"display": true`` one more descriptor: a file for what these show beside their output
             ``"environment"`` is added to what is there; that of a cell goes with it
``save``     write the namespace to the descriptor, compressed; answer what was not    (file)
``restore``  read it back                                                              (file)
"""

import ast
import atexit
import builtins
import contextlib
import ctypes
import gc
import importlib.machinery
import json
import linecache
import os
import signal
import socket
import sys
import threading
import traceback
import types

import gaoler_display

SOURCE = "/code/main.py"
WORKSPACE = "/mnt/data"
MAX_PACKET_BYTES = 192 * 1024
MAX_DESCRIPTORS = 5
CO_COROUTINE = 0x80
MAX_REASON = 200
MAX_UNSAVED = 200
LIBC = ctypes.CDLL(None)
IN_FORKS = []
"""What preimported libraries want to have run in every fork: their zygote forks without Python's ceremony."""
USER_FILES = [SOURCE, "<cell"]
"""How the names of files begin in which a user's traceback begins."""
KNOWN = set()
"""Modules that are there before anybody's code comes."""


class Interpreter:
    """What lasts between jobs."""

    def __init__(self, control):
        self._control = control
        self._cells = 0
        self._runner = None
        self._main = None
        self._streams = (sys.stdin, sys.stdout, sys.stderr)

    def serve(self):
        """Say that it waits, then answer jobs until the jailer closes its end."""
        self._control.send(b'{"ready": true}')
        while True:
            payload, fds, _flags, _address = socket.recv_fds(self._control, MAX_PACKET_BYTES, MAX_DESCRIPTORS)
            if not payload:
                os._exit(0)
            job = json.loads(payload)
            if job["do"] == "script":
                self._control.close()
                take_streams(fds)
                gaoler_display.to(fds.pop() if job["display"] else None)
                Variables(job["environment"])
                run_script(job["arguments"], main_path=job["main"])
            elif job["do"] == "tools":
                self._control.close()
                take_streams(fds)
                gaoler_display.to(fds.pop() if job["display"] else None)
                Variables(job["environment"])
                run_with_tools(job["language"], job["arguments"], fds[3])
            elif job["do"] == "cell":
                gaoler_display.to(fds.pop() if job["display"] else None)
                variables = Variables(job["environment"])
                answer = self._cell(job["arguments"], fds)
                variables.take_back()
                gaoler_display.to(None)
            elif job["do"] == "save":
                answer = self._with_file(fds[0], lambda file: save(self._namespace(), file, job["limit_bytes"]))
            else:
                answer = self._with_file(fds[0], lambda file: restore(self._namespace(), file))
            self._control.send(json.dumps({"id": job["id"], **answer}).encode())

    # -- a live cell --

    def _cell(self, arguments, fds):
        sys.stdin, sys.stdout, sys.stderr = self._streams
        take_streams(fds)
        self._cells += 1
        name = f"<cell {self._cells}>"
        import gaoler_start

        gaoler_start.see_packages()
        sys.argv = [SOURCE, *arguments]
        namespace = self._namespace()
        status = attempt(lambda: self._run_cell(name, namespace))
        flush()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        return {"status": status}

    def _run_cell(self, name, namespace):
        with open(SOURCE, encoding="utf-8") as file:
            source = file.read()
        # The size and no time: linecache then never looks for a file of this name.
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        tree = ast.parse(source, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
            last = ast.Interactive([tree.body.pop()])
        self._execute(compiled(tree, name, "exec"), namespace)
        if last is not None:
            self._execute(compiled(last, name, "single"), namespace)
        gaoler_display.show_open_figures()

    def _execute(self, code, namespace):
        if not code.co_flags & CO_COROUTINE:
            exec(code, namespace)
            return
        if self._runner is None:
            import asyncio

            # One loop for the session, so that what is bound to it can be awaited later.
            self._runner = asyncio.Runner()
        self._runner.run(eval(code, namespace))

    def _namespace(self):
        if self._main is None:
            self._main = new_main()
        return self._main.__dict__

    def _with_file(self, fd, work):
        with open(fd, "r+b", buffering=0) as file:
            try:
                return work(file)
            except BaseException as error:
                return {"error": reason(error)}


class Variables:
    """Environment of one job: in ``os.environ``, and by it in the C library's, so that programs and libraries see it.

    What the interpreter and the libraries that it has imported have read before, they do not read again, but for the
    module path and the time zone.
    """

    def __init__(self, given):
        self._before = {name: os.environ.get(name) for name in given}
        self._given = given
        os.environ.update(given)
        places = given.get("PYTHONPATH", "").split(":")
        self._places = [place for place in places if place and place not in sys.path]
        sys.path[1:1] = self._places
        self._heed_time_zone()

    def take_back(self):
        """Put back what was there; what the code itself has set since stays."""
        for name, before in self._before.items():
            if os.environ.get(name) != self._given[name]:
                continue
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
        for place in self._places:
            with contextlib.suppress(ValueError):
                sys.path.remove(place)
        self._heed_time_zone()

    def _heed_time_zone(self):
        if "TZ" in self._given:
            import time

            time.tzset()


# -- running --


def compiled(source, name, mode):
    """Compile with ``await`` allowed at the top level."""
    return compile(source, name, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def attempt(work):
    """Run user code: KeyboardInterrupt can come only here. Whatever it raises is shown; give the exit status."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            work()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except SystemExit as error:
        return exit_status(error)
    except BaseException as error:
        show(error)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def exit_status(error):
    """What ``sys.exit(...)`` means."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def show(error):
    """Print a traceback that begins in the user's code."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(tuple(USER_FILES)):
        trace = trace.tb_next
    # Not in user code at all: a syntax error, or what was raised while it ended.
    trace = trace or error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error = error.with_traceback(trace)
    try:
        if sys.excepthook is sys.__excepthook__:
            # The built-in hook reads source lines from files only; the lines of a cell are in linecache.
            traceback.print_exception(error)
        else:
            sys.excepthook(type(error), error, trace)
    except BaseException:
        sys.__excepthook__(type(error), error, trace)


def run_with_tools(language, arguments, link):
    """Run the program, or the bash script, with functions that call the tools of ``/code/tools.json``."""
    import gaoler_tools

    if language == "bash":
        gaoler_tools.run_bash(arguments, link)
    else:
        run_script(arguments, gaoler_tools.functions(link))


def run_script(arguments, given=None, main_path=SOURCE):
    """Run the program as the only one of this process, with what is ``given``, and end with its status."""
    main = new_main()
    main.__dict__.update(given or {})
    main.__file__ = main_path
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", main_path)
    main.__cached__ = None
    sys.argv = [main_path, *arguments]
    sys.orig_argv = [sys.executable, *sys.argv]
    if main_path != SOURCE:
        USER_FILES.append(main_path)
        sys.path[0] = os.path.dirname(main_path)

    def work():
        with open(main_path, "rb") as file:
            code = compiled(file.read(), main_path, "exec")
        if code.co_flags & CO_COROUTINE:
            import asyncio

            asyncio.run(eval(code, main.__dict__))
        else:
            exec(code, main.__dict__)
        gaoler_display.show_open_figures()

    finish(main, attempt(work))


def finish(main, status):
    """End as the interpreter does: threads, exit functions, the program's own objects, buffers.

    Only then, and not by tearing down hundreds of modules: that would copy every page that the zygote shares.
    """
    for step in (
        threading._shutdown,
        atexit._run_exitfuncs,
        lambda: forget(main.__dict__),
        lambda: [forget(vars(sys.modules[name])) for name in new_modules() if own(name)],
        gc.collect,
    ):
        try:
            step()
        except BaseException as error:
            show(error)
    status = status if flush() else 120
    # Whoever reads knows at once that nothing more comes, and need not wait until the memory is given back.
    os.closerange(0, 3)
    os._exit(status)


def new_modules():
    """Name what was imported since the start. From the end, so as not to touch (and copy) what all forks share."""
    found = []
    for name in reversed(sys.modules):
        if name in KNOWN:
            break
        found.append(name)
    return found


def own(name):
    """Say whether a module came out of the workspace."""
    path = getattr(sys.modules[name], "__file__", None) or ""
    return path.startswith(WORKSPACE)


def forget(namespace):
    """Drop a module's objects in the order of the interpreter, so that files are closed and ``__del__`` is called."""
    for private in (True, False):
        for name in list(namespace):
            if name.startswith("_") == private and name != "__builtins__":
                namespace[name] = None


def flush():
    """Flush what Python and the C library hold back; say whether standard output took it."""
    went_well = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            went_well = went_well and stream is not sys.stdout
    LIBC.fflush(None)
    return went_well


def take_streams(fds):
    """Put the job's three descriptors where standard streams are."""
    for target, fd in enumerate(fds[:3]):
        os.dup2(fd, target)
        os.close(fd)


def new_main():
    """Make the module that user code runs in."""
    main = types.ModuleType("__main__")
    main.__builtins__ = builtins
    main.__annotations__ = {}
    sys.modules["__main__"] = main
    return main


# -- a fork becomes itself --


@contextlib.contextmanager
def noting_what_forks_run():
    """Note what libraries that are imported in the block want to have run in a fork; see :func:`settle`."""
    register = os.register_at_fork

    def note(**callbacks):
        register(**callbacks)
        wanted = callbacks.get("after_in_child")
        # The standard library's make locks anew, which one thread has no need of, and would copy many pages.
        if wanted is not None and str(getattr(wanted, "__module__", "")).partition(".")[0] not in sys.stdlib_module_names:
            IN_FORKS.append(wanted)

    os.register_at_fork = note
    try:
        yield
    finally:
        os.register_at_fork = register


def remember():
    """Before the forks, or at the start: note what is imported."""
    KNOWN.update(sys.modules)


def settle():
    """Undo what a fork shares with its siblings, and look for modules anew: this is another file system."""
    import gaoler_start

    threading.main_thread()._set_native_id()
    for wanted in IN_FORKS:
        wanted()

    if "MPLCONFIGDIR" in os.environ:
        gaoler_start.link_font_lists(os.environ["MPLCONFIGDIR"])
    for name in ("numpy.random", "tempfile", "uuid"):
        module = sys.modules.get(name)
        if module is None:
            continue
        if name == "numpy.random":
            module.seed()
        elif name == "tempfile":
            module._name_sequence = module.tempdir = None
        else:
            module._node = module._last_timestamp = None
    if "random" in sys.modules:
        sys.modules["random"].seed()
    sys.path[0] = os.path.dirname(SOURCE)
    for place in sys.path[:2]:
        sys.path_importer_cache.pop(place, None)
    gaoler_start.see_packages()
    gaoler_start.see_added()
    gc.enable()


# -- the namespace, kept --


class Unsaved(Exception):
    """The whole is larger than may be kept."""


class Bounded:
    """A file that takes so many bytes and no more."""

    def __init__(self, file, limit):
        self._file, self._left = file, limit

    def write(self, data):
        """Write all of it or raise."""
        self._left -= len(data)
        if self._left < 0:
            raise Unsaved("larger than may be kept")
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        return len(data)

    def flush(self):
        """Nothing is held back."""


def pickler(file, namespace):
    """A pickler to which functions of the session belong to the session's own ``__main__``."""
    import dill

    made = dill.Pickler(file, protocol=5, recurse=False, byref=False)
    made._main = sys.modules["__main__"]
    dill._dill._main_module = made._main
    return made


def save(namespace, file, limit):
    """Write what can be kept of the namespace; name what cannot, with the reason."""
    import zstandard

    unsaved = {}
    kept = {name: value for name, value in namespace.items() if not name.startswith("__")}
    while True:
        file.seek(0)
        file.truncate()
        compressor = zstandard.ZstdCompressor(level=3).stream_writer(Bounded(file, limit), closefd=False)
        try:
            pickler(compressor, namespace).dump({"names": kept, "directory": os.getcwd()})
            compressor.flush(zstandard.FLUSH_FRAME)
            break
        except (Exception, RecursionError) as error:
            faults = culprits(kept, namespace, limit)
            if not faults:
                # Each alone can be kept, all together not: the largest has to stay behind.
                largest = max(kept, key=lambda name: size_of(kept[name], namespace, limit), default=None)
                faults = {} if largest is None else {largest: reason(error)}
            if not faults:
                raise
            unsaved |= faults
            for name in faults:
                kept.pop(name)
    shown = dict(list(unsaved.items())[:MAX_UNSAVED])
    return {"unsaved": [[name[:MAX_REASON], why] for name, why in shown.items()], "names": len(kept)}


def culprits(kept, namespace, limit):
    """Try each name alone; give those that fail, with the reason."""
    found = {}
    for name, value in kept.items():
        try:
            size_of(value, namespace, limit, strict=True)
        except (Exception, RecursionError) as error:
            found[name] = reason(error)
    return found


class Counting:
    """A file that only counts."""

    def __init__(self, limit):
        self.size, self._limit = 0, limit

    def write(self, data):
        """Count."""
        self.size += len(data)
        if self.size > self._limit:
            raise Unsaved("larger than may be kept")
        return len(data)


def size_of(value, namespace, limit, *, strict=False):
    """How many bytes a value alone takes, uncompressed."""
    # What compresses well may be far larger before.
    counting = Counting(limit * 20)
    try:
        pickler(counting, namespace).dump(value)
    except (Exception, RecursionError):
        if strict:
            raise
    return counting.size


def restore(namespace, file):
    """Put a saved namespace back."""
    import dill
    import zstandard

    file.seek(0)
    dill._dill._main_module = sys.modules["__main__"]
    unpickler = dill.Unpickler(zstandard.ZstdDecompressor().stream_reader(file))
    unpickler._main = sys.modules["__main__"]
    state = unpickler.load()
    namespace.update(state["names"])
    try:
        os.chdir(state["directory"])
    except OSError:
        pass  # a directory that was no result is not there any more
    return {"names": len(state["names"])}


def reason(error):
    """Say in a line what went wrong."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:MAX_REASON]


def main():
    """Begin as a fresh interpreter (``warm = "exec"``); the control socket is descriptor 3."""
    control = socket.socket(fileno=3)
    control.set_inheritable(False)
    remember()
    settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Interpreter(control).serve()
