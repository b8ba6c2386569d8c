"""Somebody who has never seen the page: with a keyboard only, by a screen reader's tree, enlarged, with long lists."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.admin.desk import Running, ask, send
from tests.daemon import ADMIN_KEY, Daemon, eventually, start_daemon
from tests.dashboard.desk import NO_LONG_TIMERS, PARTS, Desk, open_desk
from tests.dashboard.hostile import record
from tests.kept_port import kept_address

pytestmark = pytest.mark.root

ENDLESS = "import time\nwhile True: time.sleep(100)"
FOCUS = """() => {
    const it = document.activeElement;
    return { tag: it.tagName, name: (it.getAttribute('aria-label') ?? it.innerText ?? '').trim() };
}"""
SEEN = """() => {
    const box = document.activeElement.getBoundingClientRect();
    const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    return Boolean(top) && (document.activeElement.contains(top) || top.contains(document.activeElement));
}"""
"""What has the focus is not hidden by anything, the head that stays in its place above all."""


def tab_to(desk: Desk, name: str, *, presses: int = 60, key: str = "Tab") -> None:
    """Press Tab until what is called so has the focus."""
    gone: list[str] = []
    for _ in range(presses):
        desk.page.keyboard.press(key)
        found = desk.page.evaluate(FOCUS)["name"]
        if found.startswith(name):
            return
        gone.append(found)
    raise AssertionError(f"{name!r} is not reached by {key}: {gone}")


def test_everything_is_reached_by_tab_alone_and_what_has_the_focus_is_seen(desk: Desk, watched: Daemon) -> None:
    running = Running(watched, ENDLESS, user="keyed")
    desk.open()
    expect(desk.page.get_by_label("Master key")).to_be_focused()
    desk.page.keyboard.type(ADMIN_KEY)
    desk.page.keyboard.press("Enter")
    expect(desk.page.get_by_role("heading", level=1)).to_be_focused()
    expect(desk.page.get_by_role("link", name="Executions")).to_contain_text("1")
    tab_to(desk, "Executions", key="Shift+Tab")
    desk.page.keyboard.press("Enter")
    expect(desk.page.get_by_role("heading", level=1)).to_have_text("Executions")
    expect(desk.page.get_by_role("heading", level=1)).to_be_focused()
    expect(desk.page.get_by_role("button", name="Cancel py of keyed")).to_be_visible()
    tab_to(desk, "Cancel py of keyed")
    desk.page.keyboard.press("Enter")
    dialog = desk.page.get_by_role("dialog", name="Cancel this execution?")
    # Nothing is done by who presses Enter once too often.
    expect(dialog.get_by_role("heading")).to_be_focused()
    tab_to(desk, "Kill it", presses=3)
    desk.page.keyboard.press("Enter")
    desk.no_dialog()
    assert "An operator of this server has ended this execution." in running.answer().body.decode()
    # The row is gone, and with it what had the focus: still it is in this part of the page.
    expect(desk.page.get_by_text("Nothing runs at the moment")).to_be_visible()
    assert desk.page.evaluate("document.querySelector('main#content').contains(document.activeElement)")


def test_nothing_that_has_the_focus_lies_below_the_head(desk: Desk) -> None:
    overview = ask(desk.daemon, "overview")
    # The stream ends at once: nothing is to move when the page says so, or follows again.
    desk.page.add_init_script(NO_LONG_TIMERS)
    desk.stream([("snapshot", {"overview": overview, "running": []})])
    desk.answer("executions?*", {"running": [], "recent": [record(number) for number in range(60)]})
    desk.sign_in()
    main = desk.go("Executions")
    expect(main.get_by_role("table", name="Ended").locator("tbody tr")).to_have_count(60)
    main.get_by_role("button", name="Details").last.focus()
    for _ in range(40):
        desk.page.keyboard.press("Shift+Tab")
        assert desk.page.evaluate(SEEN), desk.page.evaluate(FOCUS)


def test_the_tree_of_a_screen_reader_says_where_everything_is(desk: Desk, watched: Daemon) -> None:
    watched.execute("print(1)", user="ada")
    desk.enter("Executions")
    expect(desk.page.get_by_role("table", name="Ended")).to_contain_text("ada")
    tree = desk.page.locator("body").aria_snapshot()
    for wanted in (
        '- link "To the content"',
        '- navigation "Parts of the page"',
        '- heading "Executions" [level=1]',
        '- region "Running and waiting"',
        '- region "Ended"',
        '- table "Ended executions, the latest first"',
        '- columnheader "Outcome"',
        '- searchbox "Filter"',
        '- combobox "Outcome"',
        '- button "Details of py of ada"',
    ):
        assert wanted in tree, f"{wanted}\n{tree}"
    assert len(re.findall(r'- heading ".*" \[level=1\]', tree)) == 1
    # Nothing that can be used is without a name.
    assert (
        re.findall(r"- (?:button|link|searchbox|textbox|combobox|checkbox|table|region)(?::| *$)", tree, re.MULTILINE)
        == []
    )


def test_each_part_has_one_first_heading_and_none_is_left_out(desk: Desk) -> None:
    desk.enter()
    for part in PARTS:
        desk.go(part)
        levels = [int(each) for each in re.findall(r"\[level=(\d)\]", desk.page.locator("body").aria_snapshot())]
        assert levels[0] == 1, part
        assert levels.count(1) == 1, part
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), (part, levels)


def test_at_twice_the_size_nothing_sticks_out_or_lies_over_another(browser: Browser, watched: Daemon) -> None:
    watched.execute("print(1)", user="ada")
    watched.upload(("notes.txt", b"hello"), user="ada")
    overlapping = """() => {
        const used = [...document.querySelectorAll('.top :is(a, button, .pill), .head :is(h1, button, input, select)')]
            .filter((each) => each.checkVisibility()).map((each) => [each, each.getBoundingClientRect()]);
        const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
        return used.flatMap(([a, boxA], at) => used.slice(at + 1)
            .filter(([b, boxB]) => !a.contains(b) && over(boxA, boxB))
            .map(([b]) => [a.outerHTML.slice(0, 90), b.outerHTML.slice(0, 90)]));
    }"""
    for width in (640, 390, 320):
        with open_desk(browser, watched, viewport={"width": width, "height": 450}) as desk:
            desk.enter()
            for part in PARTS:
                desk.go(part)
                desk.known()
                assert desk.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (part, width)
                assert desk.page.evaluate(overlapping) == [], (part, width)
                desk.picture(f"enlarged-{part.lower()}-{width}")


@pytest.fixture(scope="module")
def crowd(watched: Daemon) -> int:
    """Five hundred sessions, really."""
    names = [f"crowd{number:03}" for number in range(500)]
    for name in names:
        assert watched.upload(("a.txt", b"a"), user=name).status == 200
    return len(names)


def test_five_hundred_sessions_are_shown_page_by_page_and_the_focus_stays(desk: Desk, crowd: int) -> None:
    main = desk.enter("Sessions")
    rows = main.get_by_role("table", name="Sessions").locator("tbody tr")
    expect(rows).to_have_count(100)
    more = main.get_by_role("button", name="Show more")
    count = 100
    while more.is_visible():
        more.focus()
        desk.page.keyboard.press("Enter")
        expect(rows).not_to_have_count(count)
        expect(desk.page.locator("#announcer")).to_contain_text("sessions are shown")
        count = rows.count()
    assert count >= crowd
    # The button has gone after the last page: the focus is on the first session of it.
    assert desk.page.evaluate("document.activeElement.closest('tbody tr') !== null")
    main.get_by_label("User").fill("crowd250")
    main.get_by_role("button", name="Refresh").click()
    expect(rows).to_have_count(1)
    assert desk.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_five_hundred_executions_are_looked_through_by_filter(desk: Desk) -> None:
    desk.stream([("snapshot", {"overview": ask(desk.daemon, "overview"), "running": []})])
    desk.answer("executions?*", {"running": [], "recent": [record(number) for number in range(500)]})
    desk.sign_in()
    main = desk.go("Executions")
    rows = main.get_by_role("table", name="Ended").locator("tbody tr")
    expect(rows).to_have_count(100)
    expect(main).to_contain_text("100 of 500 are shown")
    main.get_by_label("Filter").fill("user123")
    expect(rows).to_have_count(1)
    assert desk.faults() == []


def test_nothing_is_called_empty_before_it_is_known(desk: Desk) -> None:
    held: list[Any] = []
    desk.page.route("**/v1/admin/sessions?*", lambda route: held.append(route))  # noqa: PLW0108 - it is marked as a handler
    main = desk.enter("Sessions")
    expect(main).to_contain_text("Asking the daemon")
    expect(main.get_by_role("table")).to_have_count(0)
    expect(main).not_to_contain_text("No session has files")
    # It is said before it is asked. Looking at the page lets the browser's word come.
    eventually(lambda: bool(desk.page.title()) and len(held) > 0)
    held[0].continue_()
    expect(main).not_to_contain_text("Asking the daemon")


def test_what_failed_while_the_daemon_was_away_is_asked_again_when_it_is_back(
    browser: Browser, image_dir: Path, state_dir: Path
) -> None:
    with kept_address() as address:
        come_back(browser, image_dir, state_dir, {"GAOLER_BIND": address})


def come_back(browser: Browser, image_dir: Path, state_dir: Path, settings: dict[str, str]) -> None:
    daemon = start_daemon(state_dir, image_dir, settings=settings)
    with open_desk(browser, daemon) as desk:
        desk.page.add_init_script(NO_LONG_TIMERS)
        main = desk.enter("Sessions")
        expect(main).to_contain_text("No session has files")
        daemon.stop()
        expect(desk.page.locator("#live-pill")).to_have_text("Disconnected")
        main.get_by_role("button", name="Refresh").click()
        expect(main.get_by_role("alert")).to_contain_text("cannot be reached")
        daemon = start_daemon(state_dir, image_dir, settings=settings)
        daemon.upload(("a.txt", b"a"), user="meanwhile")
        desk.page.get_by_role("button", name="Try now").click()
        expect(main).to_contain_text("meanwhile")
        expect(main.get_by_role("alert")).to_have_count(0)
        expect(desk.page.locator("#cut-off")).to_be_hidden()
        daemon.stop()


def test_who_signed_in_with_a_key_that_is_revoked_is_signed_out_with_nothing_left_open(
    desk: Desk, watched: Daemon
) -> None:
    key = send(watched, "POST", "keys", {"name": "shortlived", "admin": True}).json["key"]
    desk.sign_in(key)
    expect(desk.page.locator("#live-pill")).to_have_text("Live")
    main = desk.go("Keys")
    main.get_by_role("button", name="New key").click()
    dialog = desk.page.get_by_role("dialog", name="New key")
    dialog.get_by_label("Name").fill("too-late")

    def revoke(route: Route) -> None:
        # Not before it is asked: the page may be told in between, by itself, and close the dialog.
        if route.request.method == "POST":
            assert send(watched, "DELETE", "keys/shortlived").status == 200
        route.continue_()

    desk.page.route("**/v1/admin/keys", revoke)
    dialog.get_by_role("button", name="Make it").click()
    expect(desk.page.locator("#sign-in-word")).to_contain_text("Signed out")
    desk.no_dialog()
    expect(desk.page.locator("#app")).to_be_hidden()
    expect(desk.page.get_by_label("Master key")).to_be_focused()
    assert key not in desk.page.content()
    assert "too-late" not in {each["name"] for each in ask(watched, "keys")["keys"]}
    # And in again, as if nothing had been.
    desk.page.get_by_label("Master key").fill(ADMIN_KEY)
    desk.page.get_by_role("button", name="Sign in").click()
    expect(desk.page.locator("#live-pill")).to_have_text("Live")
    expect(desk.page.locator("#sign-in-word")).to_be_hidden()
