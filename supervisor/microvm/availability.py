"""Whether this host gives virtual machines, as far as can be told without starting one."""

from __future__ import annotations

from pathlib import Path

from supervisor.settings import MicrovmSettings


def why_not(settings: MicrovmSettings, image: Path) -> str:
    """Say why there are no virtual machines; empty: nothing speaks against them. Only a boot is a proof."""
    if not settings.enabled:
        return "this server's settings do not switch it on (microvm.enabled)"
    return ""
