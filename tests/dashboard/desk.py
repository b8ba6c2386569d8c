"""An operator at the page: signs in, goes from part to part. Whatever the browser complains of fails the test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.artefacts import SCREENSHOTS
from tests.daemon import ADMIN_KEY, Daemon
from tests.dashboard.screenshots import ALL, PARTS

__all__ = ["NO_LONG_TIMERS", "PARTS", "REFUSED", "Desk", "open_desk"]

PATIENCE_MS = 30_000.0
SERIOUS = ("serious", "critical")

REFUSED = """
import socket
with socket.create_connection(("127.0.0.1", 3128), 10) as sock:
    sock.sendall(b"CONNECT new.example.org:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(sock.recv(4096).split()[1].decode())
"""
"""A program that wants to connect where it may not."""

NO_LONG_TIMERS = """(() => {
    for (const name of ["setInterval", "setTimeout"]) {
        const real = window[name].bind(window);
        window[name] = (act, wait, ...rest) => (wait >= 600 ? 0 : real(act, wait, ...rest));
    }
})()"""
"""What the page would ask now and then, or a while after it was cut off, it does not: only who is at it has it ask."""

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Desk:
    page: Page
    daemon: Daemon
    complaints: list[str] = field(default_factory=list)
    """Errors of scripts, and what the page's policy has stopped."""
    requests: list[str] = field(default_factory=list)

    def open(self) -> None:
        self.page.goto(f"{self.daemon.base_url}/dashboard")

    def sign_in(self, key: str = ADMIN_KEY) -> None:
        self.open()
        self.page.get_by_label("Master key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()

    def enter(self, part: str = "Overview") -> Locator:
        """Sign in and go to a part; give its main landmark."""
        self.sign_in()
        expect(self.page.locator("#live-pill")).to_have_text("Live")
        return self.go(part)

    def go(self, part: str) -> Locator:
        self.page.get_by_role("navigation").get_by_role("link", name=part).click()
        main = self.page.get_by_role("main")
        expect(main.get_by_role("heading", level=1)).to_have_text(part)
        return main

    def known(self) -> None:
        """Wait until the part shows what there is: nothing in it is still being asked."""
        main = self.page.locator("#content")
        expect(main.locator(":is(tbody tr, dl, .check, .empty, .known)").locator("visible=true").first).to_be_visible()
        expect(main).not_to_contain_text("Asking the daemon")

    def no_dialog(self) -> None:
        """Wait until none is left in the document. A closed one has no role, and is taken out an event later by Escape."""
        expect(self.page.locator("dialog")).to_have_count(0)

    def picture(self, name: str) -> Path:
        """Keep a picture of what is seen; of no other name than those that are expected to be there."""
        assert name in ALL, f"{name} is not named in tests/dashboard/screenshots.py"
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def answer(self, path: str, body: object, *, status: int = 200) -> None:
        """Give this answer instead of the daemon's."""

        def fulfil(route: Route) -> None:
            route.fulfill(status=status, content_type="application/json", body=json.dumps(body))

        self.page.route(f"**/v1/admin/{path}", fulfil)

    def stream(self, events: Sequence[tuple[str, Any]]) -> None:
        """Send these events instead of the daemon's; then the stream ends."""
        text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)

        def fulfil(route: Route) -> None:
            route.fulfill(status=200, content_type="text/event-stream", body=text)

        self.page.route("**/v1/admin/executions/events", fulfil)

    def faults(self) -> list[str]:
        """What the rules of accessibility say against the page as it is now, where it matters."""
        found = Axe().run(self.page).response
        assert found["passes"], "nothing was looked at"
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:200]}"
            for each in found["violations"]
            if each["impact"] in SERIOUS
            for node in each["nodes"]
        ]


@contextmanager
def open_desk(browser: Browser, daemon: Daemon, **looks: Any) -> Iterator[Desk]:
    """Open a page in a browser that knows nothing of earlier ones. ``looks``: size, colours."""
    context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}, **looks})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    desk = Desk(page, daemon)
    context.on("request", lambda request: desk.requests.append(request.url))
    page.on("pageerror", lambda error: desk.complaints.append(str(error)))
    # A refused or cut request is said in the console, too, and is no fault of the page.
    page.on(
        "console",
        lambda said: (
            desk.complaints.append(said.text)
            if said.type == "error" and "Failed to load resource" not in said.text
            else None
        ),
    )
    try:
        yield desk
        assert desk.complaints == []
    finally:
        context.close()
