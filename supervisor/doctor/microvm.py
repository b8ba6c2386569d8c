"""``gaoler doctor --microvm``: whether this host gives virtual machines, proven by a boot, and else what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from supervisor.doctor.host import Finding
from supervisor.errors import ConfigurationError
from supervisor.image import current_image
from supervisor.microvm.availability import missing
from supervisor.microvm.findings import BUILD, look
from supervisor.microvm.probe import Probe, boot
from supervisor.preparation.prepare import read_policy
from supervisor.settings.tree import Settings

WORKS: Final = "This host gives virtual machines."
DOES_NOT: Final = "This host gives no virtual machines."
_SIGNS: Final = {"ok": "ok  ", "note": "note", "fail": "FAIL"}
_BOOT: Final = "boot of a probe"
_NOWHERE: Final = Path("/nonexistent")


class Report(msgspec.Struct, frozen=True):
    """All that was found. ``usable``: a machine was booted, and a program ran in it."""

    usable: bool
    findings: list[Finding]


def examine(settings: Settings) -> Report:
    """Look at what a machine needs, and boot one. Leaves the host as it was."""
    findings = [*_settings(settings), *_looked_at(settings)]
    if os.geteuid() != 0:
        findings.append(Finding(_BOOT, "fail", "not tried: it needs root", "run it with sudo"))
        return Report(usable=False, findings=findings)
    if current_image(settings.image_path) is None:
        findings.append(Finding(_BOOT, "fail", "not tried: there is no runtime image", BUILD))
        return Report(usable=False, findings=findings)
    probe = boot(settings)
    known = any(finding.status == "fail" for finding in findings)
    findings.append(_booted(settings, probe, known=known))
    return Report(usable=probe.booted, findings=findings)


def _settings(settings: Settings) -> Iterator[Finding]:
    if settings.microvm.enabled:
        yield Finding("settings", "ok", "microvm.enabled")
    else:
        yield Finding("settings", "note", "not switched on; the probe is booted all the same", "set microvm.enabled")
    try:
        read_policy(settings)
    except ConfigurationError as error:
        yield Finding("policies", "fail", error.message, "mend the file or setting that is named")


def _looked_at(settings: Settings) -> Iterator[Finding]:
    facts = look()
    image = current_image(settings.image_path)
    found = list(missing(settings.microvm, image.path if image else _NOWHERE, facts))
    for each in found:
        yield Finding(each.name, "fail", each.found, each.fix)
    if not found:
        loaded = ", ".join(sorted(facts.modules)) or "no module of KVM"
        yield Finding("kvm, guest, libraries", "ok", f"there ({loaded}); only a boot is a proof")


def _booted(settings: Settings, probe: Probe, *, known: bool) -> Finding:
    """Say what came of the boot. ``known``: something is missing that could be seen."""
    if probe.booted:
        return Finding(_BOOT, "ok", f"a program ran on {probe.kernel}, {probe.seconds:g} s after the jailer's start")
    seconds = settings.microvm.boot_seconds
    if known:
        return Finding(_BOOT, "fail", probe.reason, "the lines above say what is missing")
    fix = f"nothing is missing that can be seen: on a slow host raise microvm.boot_seconds (now {seconds:g})"
    return Finding(_BOOT, "fail", probe.reason, f"{fix}; on a rented one ask for whole nested virtualisation")


def as_text(report: Report) -> str:
    """Lay it out for a person."""
    lines: list[str] = []
    for finding in report.findings:
        lines.append(f"{_SIGNS[finding.status]}  {finding.name}: {finding.found}")
        if finding.fix and finding.status != "ok":
            lines.append(f"      -> {finding.fix}")
    lines.append(WORKS if report.usable else f"{DOES_NOT} docs/microvm.md says what they need.")
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """Lay it out for a program."""
    return msgspec.json.format(msgspec.json.encode(report)).decode()
