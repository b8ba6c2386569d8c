"""Big files and long runs: 100 MB up and down and a run of 35 seconds, with the memory that daemon and jailer take."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from benchmarks.common import Client, measured_daemon
from tests.daemon import KEY, Daemon

PIECE = b"0123456789abcdef" * 4096


def peak_mebibytes(pid: int) -> float:
    """Read the most memory that the process had resident since :func:`forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def forget_peak(pid: int) -> None:
    """Have the kernel begin anew with what is resident now (Documentation/filesystems/proc.rst, clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def measured(daemon: Daemon, title: str, work: Callable[[], None]) -> None:
    """Print what the work took: time, and the peak of both processes, beside what they had before."""
    pids = {"daemon": daemon.process.pid, "jailer": daemon.named("gaoler-jailer")}
    before: dict[str, float] = {}
    for name, pid in pids.items():
        forget_peak(pid)
        before[name] = peak_mebibytes(pid)
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    peaks = "  ".join(f"{name} {before[name]:6.1f} -> {peak_mebibytes(pid):6.1f} MiB" for name, pid in pids.items())
    print(f"  {title:<42} {seconds:6.2f} s  peak {peaks}", flush=True)


def upload(daemon: Daemon, size: int) -> dict[str, str]:
    """Upload a file of so many bytes, in pieces; give it as an execution names it."""

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
        for _ in range(size // len(PIECE)):
            yield PIECE
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = daemon.request("POST", "/v1/upload", body(), headers, chunked=True).json
    return {"id": answer["files"][0]["fileId"], "session_id": answer["session_id"], "name": "big.bin"}


def download(daemon: Daemon, file: Mapping[str, str], size: int) -> None:
    """Download it again, in pieces."""
    link = http.client.HTTPConnection(daemon.address)
    link.request("GET", f"/v1/download/{file['session_id']}/{file['id']}", headers={"X-API-Key": KEY})
    response = link.getresponse()
    received = 0
    while piece := response.read(1 << 20):
        received += len(piece)
    link.close()
    expect(received, size)


def through_a_sandbox(daemon: Daemon, file: Mapping[str, str], size: int) -> None:
    """Give it to a program that makes a copy of it."""
    code = "import os, shutil; shutil.copy('big.bin', 'copy.bin'); print(os.path.getsize('copy.bin'))"
    answer = Client(daemon.address).execute("py", code, files=[file])
    expect((answer["stdout"], [each["name"] for each in answer["files"]]), (f"{size}\n", ["copy.bin"]))


def long_run(daemon: Daemon, seconds: int) -> None:
    """Run something that takes its time."""
    answer = Client(daemon.address).execute("bash", f"sleep {seconds}; echo done", timeout=(seconds + 20) * 1000)
    expect(answer["stdout"], "done\n")


def expect(found: object, expected: object) -> None:
    """End the program if it is not so."""
    if found != expected:
        raise SystemExit(f"{found!r} where {expected!r} was expected")


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--megabytes", default=100, help="Size of the file.")
@click.option("--seconds", default=35, help="Length of the long run.")
def main(image_dir: Path, megabytes: int, seconds: int) -> None:
    """Start a daemon, measure, stop it."""
    size = megabytes * 1_000_000 // len(PIECE) * len(PIECE)
    file: dict[str, str] = {}
    with measured_daemon(image_dir) as daemon:
        print(f"A file of {size / 1e6:.0f} MB, and a run of {seconds} s:")
        measured(daemon, "upload", lambda: file.update(upload(daemon, size)))
        measured(daemon, "download", lambda: download(daemon, file, size))
        measured(daemon, "as an input, copied, and kept as a result", lambda: through_a_sandbox(daemon, file, size))
        measured(daemon, f"a run of {seconds} s", lambda: long_run(daemon, seconds))


if __name__ == "__main__":
    main()
