"""The daemon killed at every step of a request: nothing acknowledged is lost, nothing is half there or there twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash import world
from tests.crash.house import House, count_steps, open_house, status_of
from tests.crash.scenes import SCENES, Scene

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def houses(image_dir: Path) -> Iterator[dict[str, House]]:
    """One for each group of settings, for all scenes that need them."""
    with ExitStack() as stack:
        found: dict[str, House] = {}
        for settings in ({}, *(scene.settings for scene in SCENES)):
            if str(settings) not in found:
                found[str(settings)] = stack.enter_context(open_house(image_dir, settings))
        yield found
        for house in found.values():
            house.daemon.stop()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_killed_daemon_keeps_what_it_acknowledged_and_nothing_by_half(scene: Scene, houses: dict[str, House]) -> None:
    house = houses[str(dict(scene.settings))]
    count = count_steps(house, scene, lambda daemon: daemon.process.pid, "daemon")
    for number in world.chosen(scene.name, count.steps, scene.at_most):
        act, expected = scene.prepare(house.daemon, 100 + number)
        before = world.kept(house.state)
        with world.traced(house.daemon.process.pid, number) as steps:
            status = status_of(act, house.daemon)
            steps.settle()
            step = steps.killed
        count.killed_at += step is not None
        with world.blamed_on(number, step):
            assert status in (0, 200, 204)
            house.kill_and_start()
            world.check_only_whole(before, world.kept(house.state), expected, acknowledged=status > 0)
