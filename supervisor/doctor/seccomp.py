"""``gaoler doctor --seccomp PROGRAM``: what a program would need of the seccomp profiles, found by running it.

It runs once in a real sandbox whose filters ask instead of deciding (:mod:`supervisor.jailer.watch`), with a jailer of
its own. What a policy refuses on purpose is said with the ids of the claims that stand beside it in the kafel text.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from supervisor import oneshot
from supervisor.doctor.syscall_names import kafel_name, shown_name
from supervisor.errors import ConfigurationError, InvalidRequest
from supervisor.execution.results import shown_name as printable
from supervisor.jailer.seccomp_filter import AUDIT_ARCH_X86_64
from supervisor.jailer.watch import Finding
from supervisor.policy import load_policies
from supervisor.preparation.prepare import policy_directory
from supervisor.runtimes.catalogue import Language, language_of, load_languages
from supervisor.settings.tree import Settings

NOTE: Final = (
    "Logging mode: system calls that would have killed the program were let through in this one run. "
    "All other walls of the sandbox stood."
)
_LETTERS: Final = "abcdef"
_PROFILES: Final = "seccomp/languages"
_JAILERS: Final = "processes/jailer.kafel"
"""What everything inherits from the jailer."""
_MAX_OUTPUT: Final = 4000
_LAST_LINES: Final = 5
_WHOLE_HALF: Final = 0xFFFFFFFF
_BINARY: Final = 'cp /mnt/data/program /tmp/program && chmod 755 /tmp/program && exec /tmp/program "$@"'


@dataclass(frozen=True, slots=True)
class Wish:
    """What to look at. ``language``: by the file's extension if it is not given; of a binary: C."""

    program: Path
    arguments: tuple[str, ...]
    language: str | None = None
    policy: str | None = None


class Need(msgspec.Struct, frozen=True):
    """A system call that the program makes and that is not allowed as it is.

    ``verdict`` is what it would get; ``rules`` says who decides that, and why, where the text says so.
    ``arguments``: those that decide, by position, in hexadecimal.
    """

    call: str
    number: int
    arguments: dict[int, str]
    times: int
    process: str
    verdict: str
    rules: list[str]
    claims: list[str]
    profile: str
    suggestion: str


class Examination(msgspec.Struct, frozen=True):
    """What was found. ``left_out``: so many calls more were not looked at one by one."""

    program: str
    language: str
    policy: str
    note: str
    status: int
    killed: list[Need]
    refused: list[Need]
    left_out: int
    stdout: str
    stderr: str
    explanation: str | None = None


def examine(settings: Settings, wish: Wish) -> Examination:
    """Run the program in logging mode and say what it would need.

    Raises:
        GaolerError: it could not be run.
    """
    settings = _with_policy(settings, wish.policy)
    policy = settings.execution.policy
    content = wish.program.read_bytes()
    language = _language(wish, content)
    report, header, findings = oneshot.observe(settings, _work(wish, content, language))
    texts = _Texts(settings)
    needs = [_need(finding, policy, texts) for finding in sorted(findings, key=lambda each: (each.number, -each.times))]
    return Examination(
        program=wish.program.name,
        language=language.name,
        policy=policy,
        note=NOTE,
        status=report.status,
        killed=[need for need in needs if not need.verdict.startswith("ERRNO")],
        refused=[need for need in needs if need.verdict.startswith("ERRNO")],
        left_out=header.left_out,
        stdout=report.stdout[:_MAX_OUTPUT],
        stderr=report.stderr[-_MAX_OUTPUT:],
        explanation=report.note,
    )


def _with_policy(settings: Settings, policy: str | None) -> Settings:
    if policy is None:
        return settings
    if policy not in load_policies(policy_directory(settings)):
        raise ConfigurationError(f"there is no policy named {policy!r}", field="execution.policy")
    return msgspec.structs.replace(settings, execution=msgspec.structs.replace(settings.execution, policy=policy))


def _language(wish: Wish, content: bytes) -> Language:
    languages = load_languages()
    wanted = wish.language
    if wanted is None:
        wanted = "c" if _is_binary(content) else language_of(wish.program, languages)
    for language in languages:
        if wanted in (language.name, *language.aliases):
            return language
    raise InvalidRequest(f"there is no language named {wanted!r}: give one with --language", field="language")


def _is_binary(content: bytes) -> bool:
    return content.startswith(b"\x7fELF")


def _work(wish: Wish, content: bytes, language: Language) -> oneshot.Work:
    if _is_binary(content):
        # Bash takes the place of a parent that starts it; what it needs itself is seen under its own name.
        inputs = [("program", content)]
        return oneshot.Work("bash", _BINARY, wish.arguments, inputs, None, seccomp=language.seccomp)
    try:
        code = content.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{wish.program} is neither text nor a Linux program", field="program") from None
    return oneshot.Work(language.name, code, wish.arguments, (), None)


class _Texts:
    """The kafel texts, for what stands beside a rule."""

    def __init__(self, settings: Settings) -> None:
        directory = policy_directory(settings)
        self._seccomp = {name: policy.seccomp_name for name, policy in load_policies(directory).items()}
        self._directory = directory
        self._claims: dict[str, Mapping[str, Sequence[str]]] = {}

    def policy_file(self, policy: str) -> str:
        """Give the file of a policy's filter."""
        return f"seccomp/{self._seccomp[policy]}.kafel"

    def claims(self, file: str, call: str) -> list[str]:
        """Give the claims that stand beside a call in a file."""
        if file not in self._claims:
            self._claims[file] = claims_beside((self._directory / file).read_text(encoding="utf-8"))
        return list(self._claims[file].get(call, ()))


def claims_beside(text: str) -> dict[str, list[str]]:
    """Find the claim ids, in square brackets, in the comment before each call that is not simply allowed. Pure."""
    found: dict[str, list[str]] = {}
    beside: list[str] = []
    allowing = False
    for comment, block, call in re.findall(
        r"/\*(.*?)\*/|\b(ALLOW|ERRNO|KILL_PROCESS|KILL|TRAP|LOG|DEFAULT)\b|(SYSCALL\[\d+\]|\b[a-z][a-z0-9_]*\b)",
        text,
        re.DOTALL,
    ):
        if comment:
            beside = [each for ids in re.findall(r"\[([A-Z0-9, -]+)\]", comment) for each in re.split(r",\s*", ids)]
        elif block:
            allowing = block == "ALLOW"
        elif call and not allowing:
            known = found.setdefault(call, [])
            known += [each for each in beside if each not in known]
    return found


def _need(finding: Finding, policy: str, texts: _Texts) -> Need:
    call = kafel_name(finding.number)
    native = finding.arch == AUDIT_ARCH_X86_64
    files = {
        f"{_PROFILES}/{finding.profile}.kafel": finding.language,
        texts.policy_file(policy): finding.policy,
        _JAILERS: finding.jailer,
    }
    refusing = {file: verdict for file, verdict in files.items() if verdict != "ALLOW"}
    claims: list[str] = []
    for file in refusing:
        claims += [each for each in texts.claims(file, call) if each not in claims]
        if file.startswith(_PROFILES):
            claims += [each for each in texts.claims(f"{_PROFILES}/parts.kafel", call) if each not in claims]
    return Need(
        call=shown_name(finding.number) if native else f"call {finding.number} of another architecture",
        number=finding.number,
        arguments={position: hex(value) for position, value in finding.arguments},
        times=finding.times,
        process=printable(finding.untrusted_process.encode("utf-8", "replace")),
        verdict=_counts(finding),
        rules=[f"{file}: {verdict}" for file, verdict in refusing.items()],
        claims=claims,
        profile=finding.profile,
        suggestion=_rule(call, dict(finding.arguments)) if native else "",
    )


def _counts(finding: Finding) -> str:
    """Of the verdicts the one that the program would feel: a kill, or the newest filter's errno."""
    said = [each for each in (finding.language, finding.policy, finding.jailer) if each != "ALLOW"]
    return next((each for each in said if not each.startswith("ERRNO")), said[0])


def _rule(call: str, arguments: Mapping[int, int]) -> str:
    """Write the kafel rule that would allow it; where arguments decide, with just these."""
    if not arguments:
        return f"ALLOW {{ {call} }}"
    names = ", ".join(_LETTERS[: max(arguments) + 1])
    conditions = [
        f"({_LETTERS[position]} & 0xFFFFFFFF) == {value:#x}"
        if value <= _WHOLE_HALF
        else f"{_LETTERS[position]} == {value:#x}"
        for position, value in arguments.items()
    ]
    return f"ALLOW {{ {call}({names}) {{ {' && '.join(conditions)} }} }}"


def as_json(found: Examination) -> str:
    """Lay it out for a program."""
    return msgspec.json.format(msgspec.json.encode(found)).decode()


def as_text(found: Examination) -> str:
    """Lay it out for a person."""
    lines = [f"{found.program}: {found.language}, policy {found.policy}; ended with status {found.status}"]
    if found.explanation:
        lines.append(f"  {found.explanation}")
    if found.status:
        lines += [f"  | {printable(line.encode())}" for line in found.stderr.splitlines()[-_LAST_LINES:]]
    lines += [found.note, ""]
    for title, needs in (("Would be killed", found.killed), ("Would be refused", found.refused)):
        lines.append(f"{title}: {'nothing' if not needs else ''}".rstrip())
        lines += [_line(need) for need in needs]
    if found.left_out:
        lines.append(f"{found.left_out} more calls were not told apart: there are too many different ones.")
    if found.killed:
        lines += ["", "To allow what would be killed, before the rules that refuse (the first that matches counts):"]
        lines += _advice(found.killed)
    if found.refused:
        lines += ["", "A program that goes on after a refusal needs nothing. One that does not:"]
        lines += _advice(found.refused)
    if found.killed or found.refused:
        lines += ["", "Change a copy of the policies, and name it in jailer.policy_dir."]
    elif found.status == 0:
        lines.append("The profiles have everything that it needs.")
    return "\n".join(lines)


def _line(need: Need) -> str:
    decisive = "".join(f", argument {position + 1} = {value}" for position, value in need.arguments.items())
    rules = "; ".join(map(_spoken, need.rules))
    return f"  {need.call} ({need.number}){decisive}: {need.times}x in {need.process}\n      {rules}{_beside(need)}"


def _beside(need: Need) -> str:
    return f" [{', '.join(need.claims)}]" if need.claims else ""


def _spoken(rule: str) -> str:
    """Put the name of an errno beside its number."""
    found = re.search(r"ERRNO\((\d+)\)$", rule)
    if found is None:
        return rule
    number = int(found[1])
    return f"{rule} {'done without doing it' if number == 0 else errno.errorcode.get(number, '')}".rstrip()


def _advice(needs: Sequence[Need]) -> list[str]:
    """Say what could be added where. What a policy refuses is a promise that would be broken, so it comes with that."""
    by_file: dict[str, dict[str, None]] = {}
    warned: dict[str, list[str]] = {}
    for need in needs:
        for rule in need.rules:
            file = rule.partition(":")[0]
            if need.suggestion:
                by_file.setdefault(file, {})[need.suggestion] = None
            if not file.startswith(_PROFILES):
                warned.setdefault(file, []).append(f"{need.call}{_beside(need)}")
    lines: list[str] = []
    for file, rules in by_file.items():
        lines.append(f"  in {file}:")
        lines += [f"    {rule}," for rule in rules]
        if file in warned:
            what = ", ".join(dict.fromkeys(warned[file]))
            lines.append(f"    WARNING: this holds for every sandbox. It refuses on purpose: {what}.")
    return lines
