"""The hostile programs: ``claims.toml`` says what each proves, and how its end has to look."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from supervisor.attack.case import Broken, Case, Untried
from supervisor.attack.target import Target
from supervisor.errors import ConfigurationError
from supervisor.policy import ClaimId

HERE: Final = Path(__file__).resolve().parent
PROGRAMS: Final = HERE / "programs"
CONTAINED: Final = "CONTAINED"
ESCAPED: Final = "ESCAPED"
_SHOWN_CHARACTERS: Final = 400


class Claim(Struct, frozen=True, forbid_unknown_fields=True):
    """One promise and the program that proves it: it ends with CONTAINED, unless ``signal`` or ``status`` is set."""

    id: ClaimId
    promise: str
    program: Annotated[str, Meta(pattern=r"^[a-z0-9_]+\.(py|sh|c)$")]
    lang: Literal["py", "bash", "c"]
    also: list[ClaimId] = []
    """More claims that it proves."""
    args: list[str] = []
    timeout_ms: int | None = None
    signal: str | None = None
    """Name of the signal that has to have ended it."""
    status: Literal["TO", "SG", "OL", "EL"] | None = None
    """As the API says how it ended: for time, by a signal, for output, for errors."""
    stderr: str | None = None
    """Has to be in stderr."""
    files: list[str] | None = None
    """Exactly these are its results."""
    skipped: int | None = None
    """So many results are refused."""
    network: Literal["internet", "none"] | None = None
    """Only where there is a little internet; only where the policy has no network."""
    egress: list[str] | None = None
    """Narrows the network of the request."""


class About(Struct, frozen=True, forbid_unknown_fields=True):
    """For the claims whose id begins with one of ``of``: what it means when one breaks, and how that is mended."""

    of: list[str]
    meaning: str
    mend: str


class _Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    about: list[About]
    claim: list[Claim]


def read_manifest(path: Path = HERE / "claims.toml") -> tuple[Sequence[Claim], Mapping[str, About]]:
    """Read the claims, and what is said about each id.

    Raises:
        ConfigurationError: it breaks a rule, a program is missing, or an id has nothing said about it.
    """
    try:
        manifest = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Manifest)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path.name}: {error}") from None
    said: dict[str, About] = {}
    for claim in manifest.claim:
        if not (path.parent / "programs" / claim.program).is_file():
            raise ConfigurationError(f"{path.name}: {claim.id}: there is no program {claim.program}")
        found = [(prefix, about) for about in manifest.about for prefix in about.of if claim.id.startswith(prefix)]
        if not found:
            raise ConfigurationError(f"{path.name}: nothing is said about {claim.id}")
        said[claim.id] = max(found, key=lambda each: len(each[0]))[1]
    return manifest.claim, said


def program_cases() -> list[Case]:
    """Make a case of every program."""
    claims, said = read_manifest()
    return [
        Case(
            id=claim.id,
            name=claim.program.rpartition(".")[0] + "".join(f" {each}" for each in claim.args),
            promise=claim.promise,
            meaning=said[claim.id].meaning,
            mend=said[claim.id].mend,
            attack=_running(claim),
            also=tuple(claim.also),
            place="internet" if claim.network == "internet" else "daemon",
        )
        for claim in claims
    ]


def _running(claim: Claim) -> Callable[[Target], Awaitable[str | None]]:
    async def attack(target: Target) -> str | None:
        if claim.network == "none" and target.policy.network != "none":
            raise Untried(f"policy {target.policy.name} has a network; group E tries what it allows")
        target.need_language({"py": "python"}.get(claim.lang, claim.lang))
        if target.internet is not None:
            target.internet.forget()
        fields: dict[str, Any] = {"args": claim.args} if claim.args else {}
        if claim.timeout_ms is not None:
            fields["timeout"] = claim.timeout_ms
        if claim.egress is not None:
            fields["egress"] = claim.egress
        result = await target.execute(program_text(claim, target), claim.lang, **fields)
        judge(claim, result)
        if target.internet is not None:
            target.internet.must_have_kept_to_the_rules()
        return None

    return attack


def program_text(claim: Claim, target: Target) -> str:
    """Put a program together: what all Python ones share, the limits of the policy, the program."""
    text = (PROGRAMS / claim.program).read_text(encoding="utf-8")
    if claim.lang != "py":
        return text
    preludes = ["prelude.py", "prelude_network.py"] if claim.network == "internet" else ["prelude.py"]
    shared = "".join((HERE / name).read_text(encoding="utf-8") for name in preludes)
    network = target.policy.network != "none"
    return f"LIMITS = {msgspec.to_builtins(target.policy.limits)!r}\nNETWORK = {network}\n{shared}{text}"


def judge(claim: Claim, result: Mapping[str, Any]) -> None:
    """Look whether the program ended as it has to.

    Raises:
        Broken: it did not.
    """
    stdout, stderr = str(result["stdout"]), str(result["stderr"])
    seen = (stdout[-_SHOWN_CHARACTERS:], stderr[-_SHOWN_CHARACTERS:], result["signal"], result["status"])
    if ESCAPED in stdout[-2000:]:
        raise Broken(stdout[stdout.rindex(ESCAPED) :][:_SHOWN_CHARACTERS])
    if claim.signal is not None or claim.status is not None:
        # The kernel or the jailer ended it; a program that got past the attack would have said so.
        if result["signal"] != (claim.signal or result["signal"]) or result["status"] != (
            claim.status or result["status"]
        ):
            raise Broken(f"it was to end by {claim.signal or claim.status} and did not: {seen}")
    elif stdout.rstrip().splitlines()[-1:] != [CONTAINED] or result["code"] != 0:
        raise Broken(f"it does not say that it is contained: {seen}")
    if claim.stderr is not None and claim.stderr not in stderr:
        raise Broken(f"stderr does not say {claim.stderr!r}: {seen}")
    kept = [file["name"] for file in result["files"]]
    if claim.files is not None and kept != claim.files:
        raise Broken(f"its results are {kept!r}, not {claim.files!r}")
    if claim.skipped is not None and len(result["skipped"]) != claim.skipped:
        raise Broken(f"{len(result['skipped'])} of its results are refused, not {claim.skipped}: {result['skipped']!r}")
