"""Group K from outside: broken policies have to refuse, whole ones have to let ordinary programs live."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.target import Target
from supervisor.errors import GaolerError
from supervisor.policy import PACKAGED_POLICIES
from supervisor.runtimes.catalogue import load_languages

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case


def _spoil(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def spoil(policies: Path) -> None:
        path = policies / name
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    return spoil


_NO_SUCH_TIER: Final = "a tier that is not there"
_SPOILT: Final[dict[str, tuple[Callable[[Path], None], str]]] = {
    "a syntax error in the seccomp policy": (_spoil("seccomp/default.kafel", lambda text: text + "\n}{"), "compile"),
    "a system call that does not exist": (
        _spoil("seccomp/default.kafel", lambda text: text.replace("ALLOW {", "ALLOW { no_such_call,", 1)),
        "no_such_call",
    ),
    "a seccomp policy that is missing": (lambda policies: (policies / "seccomp/default.kafel").unlink(), "kafel"),
    "a limit that is missing": (
        _spoil("sandbox/default.toml", lambda text: text.replace("processes", "#", 1)),
        "processes",
    ),
    "a limit that is no limit": (
        _spoil("sandbox/default.toml", lambda text: text.replace("processes = 128", "processes = 0")),
        "processes",
    ),
    "an unknown key": (_spoil("sandbox/default.toml", lambda text: "unconfined = true\n" + text), "unconfined"),
    _NO_SUCH_TIER: (
        _spoil("sandbox/default.toml", lambda text: text.replace('"nsjail"', '"container"', 1)),
        "tier",
    ),
    "a writable mount of the host": (
        _spoil(
            "mounts/default.toml", lambda text: text.replace('source = "@usr"', 'source = "@usr"\nwritable = true', 1)
        ),
        "writable",
    ),
}


@_case(
    "K22",
    "broken policies",
    promise="A policy that does not compile, is missing or has an error refuses to start; nothing falls back.",
    meaning="An operator's slip in a policy would run sandboxes with weaker walls, and nobody would know.",
    mend="Report it: this is a fault of Gaoler's own, whatever the host is like.",
    place="twin",
)
async def broken_policies(target: Target) -> str:
    """Start a twin with each spoilt folder of policies; each has to refuse and to name what is wrong."""
    twin = target.twin
    assert twin is not None
    await twin.stop()
    try:
        for what, (spoil, word) in _SPOILT.items():
            if what == _NO_SUCH_TIER and target.settings.microvm.enabled:
                continue  # it is there
            policies = twin.state / "spoilt"
            shutil.copytree(PACKAGED_POLICIES, policies)
            spoil(policies)
            said = len(twin.log())
            try:
                await twin.start({"GAOLER_JAILER_POLICY_DIR": str(policies), "GAOLER_EXECUTION_POLICY": "default"})
            except GaolerError as error:
                if word not in twin.log()[said:]:
                    raise Broken(f"{what}: it refuses, but says only {error}") from None
            else:
                await twin.stop()
                raise Broken(f"{what}: it starts all the same")
            finally:
                shutil.rmtree(policies)
    finally:
        await twin.start()
    return f"{len(_SPOILT) - target.settings.microvm.enabled} ways to spoil a policy"


@_case(
    "K23",
    "ordinary programs",
    promise="The smoke test of every installed language runs without a system call that kills it.",
    meaning="Ordinary programs die of the policy, and somebody will be tempted to loosen it.",
    mend="'gaoler doctor --seccomp PROGRAM' says which system call it was, and what the policy would need.",
)
async def ordinary_programs(target: Target) -> str:
    """Run them."""
    tried = []
    for language in load_languages():
        if language.name not in target.languages:
            continue
        result = await target.execute(language.smoke.code, language.name)
        if result["stdout"] != language.smoke.stdout:
            raise Broken(f"{language.title}: {result['signal']} {result['stdout']!r:.100} {result['stderr']!r:.200}")
        tried.append(language.name)
    if not tried:
        raise Untried("no language is installed")
    return ", ".join(tried)
