"""Compiling and running are two things: each with its own time limit, its own outcome, its own words."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.execution.values import OutOfMemory, TimedOut
from supervisor.execution.wording import explanation
from supervisor.jailer import protocol
from supervisor.jailer.channels import MESSAGE
from supervisor.policy import PACKAGED_POLICIES
from tests.daemon import PATIENCE_SECONDS, Daemon, daemon_with
from tests.supervisor.test_jailer_protocol import OPEN, frame

pytestmark = pytest.mark.root

ENDLESS = r"""__asm__(".macro again n\n .if \\n\n again (\\n-1)\n again (\\n-1)\n .endif\n .endm\n again 60");
int main(void) { return 0; }
"""
"""The assembler is busy for ever, in very little memory."""
SPIN = "int main(void) { for (;;) ; }\n"


LITTLE = {
    "memory_bytes = 1073741824": "memory_bytes = 201326592",
    "temporary_bytes = 268435456": "temporary_bytes = 100663296",
    "output_kill_bytes = 67108864": "output_kill_bytes = 1048576",
}


@contextmanager
def daemon_of(image_dir: Path, policies: Path, changes: Mapping[str, str]) -> Iterator[Daemon]:
    """A daemon with a default policy of its own."""
    shutil.copytree(PACKAGED_POLICIES, policies)
    policy = policies / "sandbox" / "default.toml"
    text = policy.read_text()
    for name, value in changes.items():
        assert name in text
        text = text.replace(name, value)
    policy.write_text(text)
    with daemon_with(image_dir, {"GAOLER_JAILER_POLICY_DIR": str(policies)}) as running:
        yield running


@pytest.fixture(scope="module")
def strict(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose compilers have a second and a half, and little memory and output."""
    changes = LITTLE | {"compile_seconds = 30": "compile_seconds = 1.5"}
    with daemon_of(image_dir, tmp_path_factory.mktemp("strict") / "policies", changes) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose compilers have little memory and output, and the time to come to it."""
    with daemon_of(image_dir, tmp_path_factory.mktemp("narrow") / "policies", LITTLE) as running:
        yield running


def test_a_program_with_a_mistake_is_not_run_and_the_compiler_says_where(daemon: Daemon) -> None:
    answer = daemon.execute('#include <stdio.h>\nint main(void) {\n  puts("ran")\n  return 0;\n}\n', "c")
    assert (answer["phase"], answer["code"], answer["stdout"]) == ("compile", 1, "")
    assert "main.c:3" in answer["stderr"]
    assert answer["message"] == "the program was not run: the compiler exited with code 1"
    assert answer["compiler_output"] == ""


def test_warnings_are_kept_apart_from_what_the_program_says(daemon: Daemon) -> None:
    code = '#include <stdio.h>\nint main(void) { printf("%s\\n", 7 ? "ran" : 7); fputs("mine", stderr); return 3; }\n'
    answer = daemon.execute(code, "c")
    assert (answer["phase"], answer["code"], answer["stdout"]) == ("run", 3, "ran\n")
    assert answer["stderr"].startswith("mine\n[gaoler] ")
    assert "warning: " in answer["compiler_output"]


def test_a_compiler_has_a_time_limit_of_its_own(strict: Daemon) -> None:
    answer = strict.execute(ENDLESS, "c", timeout=60_000)
    assert (answer["phase"], answer["status"], answer["signal"]) == ("compile", "TO", "SIGKILL")
    assert "[gaoler] the compiler timed out after 1.5 s" in answer["stderr"]


def test_the_limit_that_a_caller_asks_for_is_the_programs(daemon: Daemon) -> None:
    """What compiles longer than the program may run is still run."""
    answer = daemon.execute(SPIN, "c", timeout=10)
    assert (answer["phase"], answer["status"]) == ("run", "TO")
    assert "[gaoler] the program timed out after 0.01 s" in answer["stderr"]


def test_usage_is_that_of_both(daemon: Daemon) -> None:
    answer = daemon.execute(SPIN, "c", timeout=50)
    assert answer["wall_time"] > 55


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("#include </etc/shadow>\nint main(void) { return 0; }", "No such file"),
        ("int main(void) { return 0 }" * 2, "error: "),
    ],
)
def test_what_a_compiler_cannot_read_is_an_error_of_its_own(narrow: Daemon, code: str, said: str) -> None:
    answer = narrow.execute(code, "c")
    assert answer["phase"] == "compile"
    assert answer["stdout"] == ""
    assert said in answer["stderr"]


def test_what_a_compiler_reads_is_the_sandboxes(narrow: Daemon) -> None:
    """Lines of a file that is no program appear in its complaints: it has to be the sandbox's own."""
    answer = narrow.execute('#include "/etc/passwd"\nint main(void) { return 0; }', "c")
    assert answer["phase"] == "compile"
    assert "/nonexistent:/usr/sbin/nologin" in answer["stderr"]
    assert "/root" not in answer["stderr"]


LAUGHS = "#define A0 x x x x x x x x x x\n" + "".join(
    f"#define A{n} A{n - 1} A{n - 1} A{n - 1} A{n - 1} A{n - 1} A{n - 1} A{n - 1} A{n - 1} A{n - 1} A{n - 1}\n"
    for n in range(1, 9)
)


@pytest.mark.parametrize(
    "code",
    [
        '#include "/dev/zero"',
        LAUGHS + "int main(void) { A8 }",
        "int a[1 << 28] = {1};\nint b[1 << 28] = {1};\nint main(void) { return a[5] + b[7]; }",
        "#if __INCLUDE_LEVEL__ < 190\n#include __FILE__\n#include __FILE__\n#endif\nint main(void) { return 0; }",
    ],
    ids=["zeros", "macros", "data", "includes"],
)
def test_a_program_that_grows_in_the_compiler_ends_at_a_limit(strict: Daemon, code: str) -> None:
    answer = strict.execute(code, "c")
    assert answer["phase"] == "compile"
    assert answer["stdout"] == ""
    assert answer["code"] != 0
    assert "the compiler " in answer["message"]
    assert strict.execute("print(1)")["stdout"] == "1\n"


def test_templates_without_end_end(strict: Daemon) -> None:
    code = """template <int A, int B> struct F { static const int v = F<A - 1, 2 * B>::v + F<A - 1, 2 * B + 1>::v; };
template <int B> struct F<0, B> { static const int v = 1; };
int main() { return F<26, 0>::v; }
"""
    answer = strict.execute(code, "cpp")
    assert answer["phase"] == "compile"
    assert answer["code"] != 0
    assert "the compiler " in answer["message"]


def test_a_flood_of_complaints_is_cut_and_ended(narrow: Daemon) -> None:
    code = "#if __INCLUDE_LEVEL__ < 30\n#include __FILE__\n#include __FILE__\n#endif\n#warning " + "x" * 4000
    answer = narrow.execute(code, "c")
    assert (answer["phase"], answer["status"]) == ("compile", "EL")
    assert len(answer["stderr"]) < 100_000
    assert "the compiler was killed: it wrote more than 1 MiB to stderr" in answer["message"]


def test_a_lasting_session_goes_on_after_a_program_that_does_not_compile(daemon: Daemon) -> None:
    made = daemon.execute("x = 5", stateful=True)
    failed = daemon.execute("int main(void) { return }", "c", session_id=made["session_id"], stateful=True)
    assert (failed["phase"], failed["code"]) == ("compile", 1)
    ran = daemon.execute("int main(void) { return 4; }", "c", session_id=made["session_id"], stateful=True)
    assert (ran["phase"], ran["code"]) == ("run", 4)
    assert daemon.execute("print(x)", session_id=made["session_id"], stateful=True)["stdout"] == "5\n"


def test_in_words_it_is_said_who_was_ended() -> None:
    assert explanation(TimedOut(3.0), "compile") == "the compiler timed out after 3 s"
    assert explanation(OutOfMemory(1 << 20), "compile") == "the compiler was killed: out of memory (the limit is 1 MiB)"
    assert explanation(TimedOut(3.0)) == "the program timed out after 3 s"


@pytest.mark.parametrize(
    "first",
    ["kill -STOP -1", "kill -KILL -1", "sleep 1000 & disown; true", "while :; do kill -STOP -1; done"],
    ids=["stops", "kills", "leaves", "stops for ever"],
)
def test_whatever_a_compiler_does_to_who_waits_beside_it_the_program_runs(strict: Daemon, first: str) -> None:
    """The program's process is made while the compiler works; a captured compiler may do to it what it likes."""
    alone = "while /usr/bin/grep -qs '^sleep$' /proc/[0-9]*/comm; do :; done; echo it ran"
    runs = [
        protocol.Run(
            arguments=["/bin/bash", "-c", first], environment={}, seccomp="bash", then="sweep", phase="compile"
        ),
        protocol.Run(arguments=["/bin/bash", "-c", alone], environment={"PATH": "/usr/bin"}, seccomp="bash"),
    ]
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(strict.state_dir / "run" / "jailer.sock"))
        link.settimeout(PATIENCE_SECONDS)
        link.sendall(frame(1, MESSAGE, OPEN) + b"".join(frame(1, MESSAGE, protocol.encode(run)) for run in runs))
        received = b""
        while received.count(b"ended") < 2:
            piece = link.recv(65_536)
            assert piece, received
            received += piece
    assert b"it ran\n" in received
