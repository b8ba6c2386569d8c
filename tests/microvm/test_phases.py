"""What the log tells of a machine that is ready."""

from __future__ import annotations

import logging
import re

import pytest

from supervisor.microvm.phases import Phases


def test_a_machine_tells_what_it_took_to_what_and_its_guests_words_only_to_who_debugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="gaoler.microvm")
    phases = Phases()
    phases.reach("jail")
    phases.reach("begun")
    phases.tell(["phase userspace uptime=1.500"])
    ready, said = caplog.records
    found = re.fullmatch(r"virtual machine ready jail=(\d+\.\d{3}) begun=(\d+\.\d{3})", ready.getMessage())
    assert found is not None
    assert float(found[1]) <= float(found[2])
    assert (ready.levelname, said.levelname) == ("INFO", "DEBUG")
    assert said.getMessage() == "its console: phase userspace uptime=1.500"
