"""Everybody can use the page: by keyboard, with a screen reader, on a small screen, in the dark."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.admin.desk import send
from tests.daemon import Daemon
from tests.dashboard.desk import PARTS, REFUSED, Desk, open_desk

pytestmark = pytest.mark.root

WIDTHS = {"wide": 1360, "narrow": 360, "huge": 2560}


@pytest.fixture(scope="module", autouse=True)
def busy(watched: Daemon) -> None:
    """Something to look at in every part."""
    for user, code in (("ada", "print(1)"), ("grace", "raise SystemExit(2)"), ("alan", REFUSED)):
        watched.execute(code, user=user)
    watched.upload(("notes.txt", b"hello"), user="ada")
    assert send(watched, "DELETE", "keys/nobody").status == 404


def look(desk: Desk, name: str) -> None:
    """Look at a part, or a dialog, that shows what it has to show."""
    expect(desk.page.locator("dialog, #content :is(tbody tr, dl.facts, .check)").first).to_be_visible()
    desk.known()
    desk.picture(name)
    assert desk.faults() == [], name


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_rules_of_accessibility_find_nothing_serious(browser: Browser, watched: Daemon, colours: str) -> None:
    with open_desk(browser, watched, color_scheme=colours) as desk:
        desk.open()
        assert desk.faults() == []
        desk.picture(f"sign-in-{colours}")
        desk.enter()
        for part in PARTS:
            desk.go(part)
            look(desk, f"{part.lower()}-{colours}")
        for part, button in (("Keys", "New key"), ("Network", "Edit rules web"), ("Executions", "Details of")):
            desk.go(part).get_by_role("button", name=button).first.click()
            look(desk, f"{part.lower()}-dialog-{colours}")
            desk.page.keyboard.press("Escape")
            desk.no_dialog()


@pytest.mark.parametrize("width", ["narrow", "huge"])
def test_nothing_sticks_out_of_any_screen(browser: Browser, watched: Daemon, width: str) -> None:
    with open_desk(browser, watched, viewport={"width": WIDTHS[width], "height": 800}) as desk:
        desk.enter()
        for part in PARTS:
            desk.go(part)
            look(desk, f"{part.lower()}-{width}")
            assert desk.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), part


def test_everything_can_be_done_by_keyboard(desk: Desk) -> None:
    press = desk.page.keyboard.press
    desk.open()
    expect(desk.page.get_by_label("Master key")).to_be_focused()
    desk.page.keyboard.type("admin-key-0123456789abcdef")
    press("Enter")
    expect(desk.page.get_by_role("heading", level=1)).to_be_focused()
    desk.page.get_by_role("link", name="To the content").focus()
    press("Enter")
    expect(desk.page.get_by_role("main")).to_be_focused()
    desk.page.get_by_role("link", name="Keys").focus()
    press("Enter")
    expect(desk.page.get_by_role("heading", level=1)).to_have_text("Keys")
    desk.page.get_by_role("button", name="New key").focus()
    press("Enter")
    dialog = desk.page.get_by_role("dialog", name="New key")
    expect(dialog.get_by_label("Name")).to_be_focused()
    for _ in range(20):
        press("Tab")
        inside = "document.activeElement === document.body || document.querySelector('dialog').contains(document.activeElement)"
        assert desk.page.evaluate(inside)
    press("Escape")
    expect(dialog).to_have_count(0)
    expect(desk.page.get_by_role("button", name="New key")).to_be_focused()


def test_the_theme_follows_the_system_until_one_is_chosen(browser: Browser, watched: Daemon) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    with open_desk(browser, watched, color_scheme="dark") as desk:
        desk.enter()
        dark = desk.page.evaluate(ground)
        switch = desk.page.get_by_role("button", name="Theme")
        switch.click()
        expect(switch).to_have_text("Theme: light")
        light = desk.page.evaluate(ground)
        assert light != dark
        desk.page.reload()
        assert desk.page.evaluate(ground) == light
        assert desk.page.evaluate("JSON.stringify({...localStorage})") == '{"gaoler-theme":"light"}'


def test_nothing_moves_for_who_does_not_want_it(browser: Browser, watched: Daemon) -> None:
    with open_desk(browser, watched, reduced_motion="reduce") as desk:
        main = desk.enter("Executions")
        watched.execute("print(1)", user="still")
        expect(main.get_by_role("table", name="Ended").get_by_role("row").filter(has_text="still")).to_have_count(1)
        assert desk.page.evaluate("document.getAnimations().length") == 0


def test_a_screen_reader_is_told_what_matters_and_not_each_execution(desk: Desk, watched: Daemon) -> None:
    desk.enter("Executions")
    expect(desk.page.locator("#announcer")).to_have_text("Connected")
    for number in range(3):
        watched.execute("print(1)", user=f"quiet{number}")
    expect(desk.page.get_by_role("main")).to_contain_text("quiet2")
    expect(desk.page.locator("#announcer")).to_have_text("Connected")
    assert desk.page.locator("[aria-live], [role=status], [role=log], [role=alert]").count() == 2
