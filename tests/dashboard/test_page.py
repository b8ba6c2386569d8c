"""The page itself: how it is served, and that nothing that is shown in it can do anything to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.admin.desk import ask
from tests.daemon import Daemon, start_daemon
from tests.dashboard.desk import Desk, open_desk
from tests.dashboard.hostile import SHOWN, hostile_answers, hostile_events, record
from tests.kept_port import kept_address

pytestmark = pytest.mark.root

BUTTONS = {"Executions": 3, "Sessions": 2, "Network": 2, "Keys": 1}
"""How many buttons of a part are called by a hostile name."""
PAGE = Path(__file__).parents[2] / "http_api" / "dashboard" / "page"


def test_the_page_is_served_to_anybody_under_a_strict_policy(watched: Daemon) -> None:
    for path in ("/dashboard", *(f"/dashboard/{file.name}" for file in PAGE.iterdir() if file.name != "index.html")):
        answer = watched.request("GET", path, key=None)
        assert answer.status == 200, path
        policy = dict(each.split(" ", 1) for each in answer.headers["Content-Security-Policy"].split("; "))
        assert (
            policy["default-src"]
            == policy["base-uri"]
            == policy["form-action"]
            == policy["frame-ancestors"]
            == "'none'"
        )
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert (answer.headers["X-Frame-Options"], answer.headers["Referrer-Policy"]) == ("DENY", "no-referrer")
        again = watched.request("GET", path, headers={"If-None-Match": answer.headers["ETag"]}, key=None)
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/index.html",
        "/dashboard/../admin.py",
        "/dashboard/%2e%2e/__init__.py",
        "/dashboard/__init__.py",
        "/v1/dashboard",
    ],
)
def test_nothing_else_is_served_there(watched: Daemon, path: str) -> None:
    assert watched.request("GET", path, key=None).status == 404


def test_with_a_slash_it_leads_to_the_page(watched: Daemon) -> None:
    answer = watched.request("GET", "/dashboard/", key=None)
    assert (answer.status, answer.headers["Location"]) == (308, "../dashboard")


def test_no_file_of_the_page_makes_markup_or_code_out_of_strings() -> None:
    banned = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "sessionStorage",
        "document.cookie",
    )
    for file in PAGE.iterdir():
        text = file.read_text()
        assert [word for word in banned if word in text] == [], file.name
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), file.name
        assert "https://" not in text, file.name
    page = (PAGE / "index.html").read_text()
    assert "style=" not in page
    assert page.count("<script") == page.count('<script type="module" src=') == 1


def test_hostile_names_are_shown_and_do_nothing(desk: Desk, watched: Daemon) -> None:
    desk.stream(hostile_events(ask(watched, "overview")))
    for path, body in hostile_answers().items():
        desk.answer(path, body)
    desk.sign_in()
    expect(desk.page.locator("#who")).to_contain_text(SHOWN)
    for part in ("Executions", "Sessions", "Network", "Keys", "Usage", "Workers", "Audit", "Health"):
        main = desk.go(part)
        expect(main).to_contain_text(SHOWN)
        buttons = main.get_by_role("button", name=SHOWN)
        expect(buttons).to_have_count(BUTTONS.get(part, 0))
        for number in range(buttons.count()):
            buttons.nth(number).click()
            expect(desk.page.get_by_role("dialog")).to_contain_text(SHOWN)
            desk.page.keyboard.press("Escape")
            desk.no_dialog()
        assert desk.page.locator("#content img, dialog img").count() == 0
        assert "\u202e" not in desk.page.locator("body").inner_text()
        desk.picture(f"hostile-{part.lower()}")
    expect(desk.page).to_have_title("Health · Gaoler")


def test_a_string_cannot_become_markup_even_if_somebody_tries(desk: Desk) -> None:
    desk.enter()
    script = (
        "() => { try { document.body.innerHTML = '<b>x</b>'; return 'made'; } catch (error) { return error.name; } }"
    )
    with desk.page.expect_console_message(lambda said: "TrustedHTML" in said.text):
        assert desk.page.evaluate(script) == "TypeError"
    assert len(desk.complaints) == 1
    assert "TrustedHTML" in desk.complaints.pop()


def test_ten_thousand_events_do_not_fill_the_page(desk: Desk, watched: Daemon) -> None:
    overview = ask(watched, "overview")
    events: list[tuple[str, Any]] = [("snapshot", {"overview": overview, "running": []})]
    for number in range(5000):
        began = record(number, state="running", outcome="", ended_at=None)
        events.append(("execution", {"kind": "began", "execution": began, "missed": 0}))
        events.append(("execution", {"kind": "ended", "execution": record(number), "missed": 0}))
    desk.stream(events)
    desk.answer("executions?*", {"running": [], "recent": []})
    desk.sign_in()
    main = desk.go("Executions")
    table = main.get_by_role("table", name="Ended")
    expect(table).to_contain_text("user4999")
    expect(table.locator("tbody tr")).to_have_count(100)
    expect(main).to_contain_text("100 of 1000 are shown")
    main.get_by_label("Filter").fill("user4321")
    expect(table.locator("tbody tr")).to_have_count(1)
    assert desk.page.evaluate("document.querySelectorAll('*').length") < 3000


def test_a_page_that_is_cut_off_says_so_and_comes_back_even_if_it_is_served_no_more(
    browser: Browser, image_dir: Path, state_dir: Path
) -> None:
    with kept_address() as address:
        come_back(browser, image_dir, state_dir, {"GAOLER_FLEET_NAME": "gaoler-1", "GAOLER_BIND": address})


def come_back(browser: Browser, image_dir: Path, state_dir: Path, named: dict[str, str]) -> None:
    daemon = start_daemon(state_dir, image_dir, settings=named)
    with open_desk(browser, daemon) as desk:
        main = desk.enter("Executions")
        daemon.stop()
        expect(desk.page.locator("#cut-off")).to_contain_text("Trying again")
        expect(desk.page.locator("#live-pill")).to_have_text("Disconnected")
        desk.picture("disconnected")
        settings = {**named, "GAOLER_HTTP_DASHBOARD": "false"}
        daemon = start_daemon(state_dir, image_dir, settings=settings)
        daemon.execute("print(1)", user="afterwards")
        expect(main).to_contain_text("afterwards")
        expect(desk.page.locator("#cut-off")).to_be_hidden()
        for path in ("/dashboard", "/dashboard/main.js"):
            assert daemon.request("GET", path).status == 404
        daemon.stop()


def test_events_that_come_in_any_pieces_are_read_whole(desk: Desk) -> None:
    desk.open()
    script = """async (pieces) => {
        const { readEvents } = await import('./dashboard/stream.js');
        const body = new ReadableStream({ start(out) {
            for (const piece of pieces) out.enqueue(new Uint8Array(piece));
            out.close();
        } });
        const found = [];
        for await (const event of readEvents(body)) found.push(event);
        return found;
    }"""
    data = json.dumps({"name": "zoë \u202e"}, ensure_ascii=False)
    sent = f": still here\n\nevent: execution\ndata: {data}\n\ndata: 1\n\nevent: cut".encode()
    for size in (1, 2, 7, len(sent)):
        pieces = [list(sent[at : at + size]) for at in range(0, len(sent), size)]
        assert desk.page.evaluate(script, pieces) == [["execution", {"name": "zoë \u202e"}], ["message", 1]]


def test_the_place_of_a_wrong_rule_is_found_in_any_text(desk: Desk) -> None:
    desk.open()
    script = (
        "async (text) => (await import('./dashboard/rule-sets.js')).elements(text).map(([a, b]) => text.slice(a, b))"
    )
    rules = ['{"hosts": ["a]", "b\\"},{"], "ports": [1, 2]}', "{}", '"word"', "17", "[[], {}]"]
    for text in (f"[{','.join(rules)}]", "[\n" + " ,\n ".join(rules) + "\n]\n", f"  [{', '.join(rules)}"[:-1]):
        found = desk.page.evaluate(script, text)
        assert found[:4] == rules[:4]
