"""A browser, and a daemon that an operator looks at with it: one of each for all tests of the page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from supervisor.attack.network import policies_with
from supervisor.policy import PACKAGED_POLICIES
from tests.daemon import Daemon, daemon_with
from tests.dashboard.desk import Desk, open_desk
from tests.internet import NAME_SERVER

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
"""As root it has no sandbox of its own; it sees no other page than ours. Whatever it may want of the world by itself, no name
leads anywhere."""
LAST = "test_each_picture_that_is_named_was_drawn"
BEGAN = time.time()
"""When this run began: pictures of earlier ones do not count."""
RULES = '[[rule]]\nname = "web"\nhosts = ["www.example.org"]\nreason = "the only one"\n'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at the pictures comes after those that draw them."""
    items.sort(key=lambda item: item.name == LAST)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's own."""
    assert Path(CHROMIUM).exists(), "there is no chromium: run 'make tools', which installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def watched(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose sandboxes may reach one host."""
    policies = tmp_path_factory.mktemp("dashboard") / "policies"
    policies_with(policies, PACKAGED_POLICIES, {"web": RULES})
    settings = {
        "GAOLER_JAILER_POLICY_DIR": str(policies),
        "GAOLER_EGRESS_NAME_SERVERS": NAME_SERVER,
        # Pictures of the page are kept, and are not to say what the machine is called.
        "GAOLER_FLEET_NAME": "gaoler-1",
    }
    with daemon_with(image_dir, settings) as daemon:
        yield daemon


@pytest.fixture
def desk(browser: Browser, watched: Daemon) -> Iterator[Desk]:
    with open_desk(browser, watched) as desk:
        yield desk
