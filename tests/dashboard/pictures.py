"""Draw the pictures of docs/dashboard.md: a daemon, some minutes of work, a browser. ``python -m tests.dashboard.pictures``.

The daemon has a name by its settings, so that no picture says what the machine is called.
"""

from __future__ import annotations

import platform
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import expect, sync_playwright

from tests.daemon import ROOT, Daemon, daemon_with, image_path
from tests.dashboard.conftest import ARGUMENTS, CHROMIUM
from tests.dashboard.desk import open_desk

TARGET = ROOT / "docs" / "pictures"
SIZE = {"width": 1200, "height": 760}
MINUTES = 3
NAME = "gaoler-1"
PROGRAMS = (
    ("py", "print(sum(range(10**6)))"),
    ("py", "import time; time.sleep(1.2); open('table.csv', 'w').write('1,2')"),
    ("js", "console.log([1, 2, 3].map((x) => x * x))"),
    ("bash", "ls / | wc -l"),
    ("py", "raise SystemExit(3)"),
    ("py", "import os; os.kill(os.getpid(), 9)"),
    ("py", "x = bytearray(1 << 34)"),
)
PEOPLE = ("ada", "grace", "alan", "barbara", "edsger")


def work(daemon: Daemon, over: threading.Event) -> None:
    """Call as five people do, until it is over."""
    chance = random.Random(11)

    def call(user: str) -> None:
        while not over.is_set():
            lang, code = chance.choices(PROGRAMS, [30, 12, 10, 8, 3, 1, 1])[0]
            daemon.try_execute(code, lang, user=user)
            over.wait(chance.expovariate(1.5))

    with ThreadPoolExecutor(len(PEOPLE)) as people:
        list(people.map(call, PEOPLE))


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    over = threading.Event()
    with daemon_with(image_path(), {"GAOLER_FLEET_NAME": NAME}) as daemon, sync_playwright() as playwright:
        working = threading.Thread(target=work, args=(daemon, over))
        working.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            with (
                open_desk(browser, daemon, viewport=SIZE) as light,
                open_desk(browser, daemon, viewport=SIZE, color_scheme="dark") as dark,
            ):
                began = time.monotonic()
                light.enter("Overview")
                assert platform.node() not in light.page.content()
                expect(light.page.locator("#who")).to_contain_text(f"{NAME} · ")
                dark.enter("Executions")
                while time.monotonic() - began < MINUTES * 60:
                    light.page.wait_for_timeout(1000)
                busy = light.page.locator(".tile").first.locator("dd").first
                expect(busy).to_have_text(re.compile("^[3-9] of"))
                light.page.screenshot(path=TARGET / "dashboard-overview.png")
                running = dark.page.get_by_role("table", name="Running and waiting").get_by_role("row")
                expect(running).to_have_count(3)
                dark.page.screenshot(path=TARGET / "dashboard-executions.png")
        finally:
            over.set()
            working.join()
            browser.close()


if __name__ == "__main__":
    main()
