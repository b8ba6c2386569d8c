"""What an operator does with the page, at a real daemon in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.admin.desk import Running, ask, send
from tests.daemon import ADMIN_KEY, KEY, Daemon
from tests.dashboard.desk import NO_LONG_TIMERS, PARTS, REFUSED, Desk

pytestmark = pytest.mark.root

ENDLESS = "import time\nprint('secret-' + 'output', flush=True)\ntime.sleep(600)"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("wrong-key-0123456789abcdef", "key"),
        (KEY, "operator"),
        ("two words", "without spaces"),
        ("ключ-ключ-ключ", "plain"),
    ],
)
def test_who_shows_no_operators_key_stays_outside(desk: Desk, key: str, said: str) -> None:
    desk.sign_in(key)
    expect(desk.page.get_by_role("alert")).to_contain_text(said)
    expect(desk.page.locator("#app")).to_be_hidden()
    expect(desk.page.get_by_label("Master key")).to_be_focused()


def test_the_key_is_kept_nowhere_and_signing_out_forgets_it(desk: Desk) -> None:
    desk.enter()
    stores = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert ADMIN_KEY not in desk.page.evaluate(stores)
    assert ADMIN_KEY not in desk.page.content()
    assert not any(ADMIN_KEY in url for url in desk.requests)
    assert desk.page.get_by_label("Master key").input_value() == ""
    desk.page.get_by_role("button", name="Sign out").click()
    expect(desk.page.locator("#app")).to_be_hidden()
    expect(desk.page.get_by_label("Master key")).to_be_focused()
    desk.enter()
    desk.page.reload()
    expect(desk.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_every_part_opens_and_asks_nobody_but_the_daemon(desk: Desk, watched: Daemon) -> None:
    desk.enter()
    for part in PARTS:
        main = desk.go(part)
        expect(main.get_by_role("heading", level=1)).to_be_focused()
        expect(desk.page).to_have_title(f"{part} · Gaoler")
    assert len(desk.requests) > len(PARTS)
    assert {url.split("/")[2] for url in desk.requests} == {watched.address}


def test_an_execution_appears_as_it_happens_and_not_what_it_says(desk: Desk, watched: Daemon) -> None:
    main = desk.enter("Executions")
    running = Running(watched, ENDLESS, user="ann")
    row = main.get_by_role("table", name="Running and waiting").get_by_role("row").filter(has_text="ann")
    expect(row).to_contain_text("py")
    expect(row).to_contain_text("running")
    row.get_by_role("button", name="Cancel").click()
    dialog = desk.page.get_by_role("dialog", name="Cancel this execution?")
    expect(dialog).to_be_visible()
    desk.picture("cancel")
    dialog.get_by_role("button", name="Leave it").click()
    desk.no_dialog()
    expect(row.get_by_role("button", name="Cancel")).to_be_focused()
    row.get_by_role("button", name="Cancel").click()
    dialog.get_by_role("button", name="Kill it").click()
    expect(row).to_have_count(0)
    ended = main.get_by_role("table", name="Ended").get_by_role("row").filter(has_text="ann")
    expect(ended).to_contain_text("Stopped")
    expect(desk.page.locator("#announcer")).to_have_text("The execution was cancelled")
    assert "An operator of this server has ended this execution." in running.answer().body.decode()
    ended.get_by_role("button", name="Details").click()
    expect(desk.page.get_by_role("dialog", name="Execution")).to_contain_text("Where it went")
    desk.picture("details")
    assert "secret-" not in desk.page.content()


def test_what_has_ended_can_be_filtered(desk: Desk, watched: Daemon) -> None:
    watched.execute("raise SystemExit(3)", user="bob")
    watched.execute("print(1)", user="carol")
    main = desk.enter("Executions")
    rows = main.get_by_role("table", name="Ended").locator("tbody").get_by_role("row")
    expect(rows.filter(has_text="carol")).to_have_count(1)
    main.get_by_label("Filter").fill("BOB py")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Exited 3")
    main.get_by_label("Outcome").select_option("Timed out")
    expect(rows).to_have_count(0)


def test_the_overview_shows_what_was_done(desk: Desk, watched: Daemon) -> None:
    watched.execute("print(1)")
    main = desk.enter("Overview")
    done = ask(watched, "overview")["totals"]["executions"]
    expect(main.locator(".tile").filter(has_text="Executions")).to_contain_text(str(done))
    expect(main.get_by_role("table", name="Latency by phase").get_by_role("row")).to_have_count(7)
    expect(main.get_by_role("img", name=re.compile("Executions of each minute"))).to_be_visible()
    expect(main.get_by_role("table", name="Sandboxes that wait")).to_contain_text("bare")


def test_rules_are_edited_as_text_and_what_is_wrong_is_shown_where_it_stands(desk: Desk, watched: Daemon) -> None:
    main = desk.enter("Network")
    main.get_by_role("button", name="Edit rules web").click()
    dialog = desk.page.get_by_role("dialog", name="Rules web")
    text = dialog.get_by_label("Rules")
    expect(text).to_be_focused()
    assert '"reason": "the only one"' in text.input_value()
    text.fill('[{"hosts": ["www.example.org"], "reason": "the only one"},\n {"hosts": ["a b"], "reason": "a bad one"}]')
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("no host has")
    expect(dialog.locator(".why")).to_contain_text("Rule 2")
    marked = (
        "document.activeElement.value.slice(document.activeElement.selectionStart, document.activeElement.selectionEnd)"
    )
    assert desk.page.evaluate(marked) == '{"hosts": ["a b"], "reason": "a bad one"}'
    expect(text).to_have_attribute("aria-invalid", "true")
    desk.picture("rules")
    text.fill("[{]")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not JSON")
    text.fill('[{"hosts": ["api.example.org"], "reason": "edited in a browser"}]')
    dialog.get_by_role("button", name="Save").click()
    desk.no_dialog()
    expect(main).to_contain_text("api.example.org")
    (rules,) = ask(watched, "egress")["sets"]
    assert (rules["origin"], rules["rules"][0]["hosts"]) == ("admin", ["api.example.org"])
    main.get_by_role("button", name="Back to the file").click()
    desk.page.get_by_role("button", name="Go back").click()
    desk.no_dialog()
    expect(main).to_contain_text("www.example.org")
    assert ask(watched, "egress")["sets"][0]["origin"] == "web.toml"


def test_what_was_refused_can_be_allowed_from_where_it_is_shown(desk: Desk, watched: Daemon) -> None:
    assert watched.execute(REFUSED, user="dora")["stdout"] == "403\n"
    main = desk.enter("Network")
    row = (
        main.get_by_role("table", name="Refused connections").get_by_role("row").filter(has_text="new.example.org:443")
    )
    expect(row).to_contain_text("dora")
    row.get_by_role("button", name="Allow new.example.org").click()
    dialog = desk.page.get_by_role("dialog", name="Allow this")
    expect(dialog).to_contain_text("new.example.org")
    reason = dialog.get_by_label("Why this is allowed")
    reason.fill("short")
    dialog.get_by_role("button", name="Allow").click()
    expect(dialog.get_by_role("alert")).to_contain_text("reason")
    desk.picture("allow")
    reason.fill("the product needs it")
    dialog.get_by_role("button", name="Allow").click()
    desk.no_dialog()
    expect(row).to_contain_text("allowed since")
    (rules,) = ask(watched, "egress")["sets"]
    assert [rule["hosts"] for rule in rules["rules"]] == [["www.example.org"], ["new.example.org"]]
    assert rules["written"][1]["reason"] == "the product needs it"
    send(watched, "DELETE", "egress/web")


def test_a_key_is_made_shown_once_used_and_revoked(desk: Desk, watched: Daemon) -> None:
    main = desk.enter("Keys")
    main.get_by_role("button", name="New key").click()
    dialog = desk.page.get_by_role("dialog", name="New key")
    dialog.get_by_label("Name").fill("no spaces here")
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("name")
    expect(dialog.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Name").fill("chat")
    dialog.get_by_label("Tenant").fill("acme")
    dialog.get_by_text("Limits of its own").click()
    dialog.get_by_label("Limit of executions").fill("often")
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.get_by_label("Limit of executions")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Limit of executions").fill("2/60")
    dialog.get_by_role("button", name="Make it").click()
    shown = desk.page.get_by_role("dialog", name="The new key")
    key = shown.get_by_label("The key").inner_text()
    assert watched.request("GET", "/v1/languages", key=key).status == 200
    shown.get_by_role("button", name="I have it").click()
    desk.no_dialog()
    assert key not in desk.page.content()
    row = main.get_by_role("table", name="Keys").get_by_role("row").filter(has_text="chat")
    expect(row).to_contain_text("acme")
    expect(row).to_contain_text("executions 2/60")
    row.get_by_role("button", name="Revoke chat").click()
    desk.page.get_by_role("button", name="Revoke it").click()
    desk.no_dialog()
    expect(row).to_have_count(0)
    assert watched.request("GET", "/v1/languages", key=key).status == 401
    main = desk.go("Audit")
    acts = main.get_by_role("table", name="Acts of operators")
    for act in ("key.make", "key.revoke"):
        expect(
            acts.get_by_role("row").filter(has_text=act).filter(has_text="chat").filter(has_text="done")
        ).to_have_count(1)
    assert key not in desk.page.content()


def test_a_sessions_files_are_listed_and_it_is_deleted(desk: Desk, watched: Daemon) -> None:
    name = "<b>bold</b> ünï.csv"
    session = watched.upload((name, b"1,2"), user="emil").json["session_id"]
    main = desk.enter("Sessions")
    main.get_by_label("User").fill("emil")
    main.get_by_role("button", name="Refresh").click()
    rows = main.get_by_role("table", name="Sessions").locator("tbody").get_by_role("row")
    expect(rows).to_have_count(1)
    rows.get_by_role("button", name=f"Files of session {session}").click()
    dialog = desk.page.get_by_role("dialog", name="Files of the session")
    expect(dialog).to_contain_text(ask(watched, f"sessions/{session}")["file_list"][0]["name"])
    assert dialog.locator("b").count() == 0
    dialog.get_by_role("button", name="Close").click()
    desk.no_dialog()
    rows.get_by_role("button", name=f"Delete session {session}").click()
    desk.page.get_by_role("button", name="Delete it").click()
    desk.no_dialog()
    expect(rows).to_have_count(0)
    assert send(watched, "DELETE", f"sessions/{session}").status == 404


def test_usage_is_summed_by_day_and_caller(desk: Desk, watched: Daemon) -> None:
    watched.execute("print(1)", user="fred")
    main = desk.enter("Usage")
    row = main.get_by_role("table", name="Usage").get_by_role("row").filter(has_text="fred")
    expect(row).to_contain_text("default")
    expect(main.get_by_role("img")).to_have_attribute("aria-label", re.compile("in 30 days"))


def test_a_key_that_no_longer_holds_signs_out(desk: Desk) -> None:
    # Else it may be told by itself, before anybody goes anywhere.
    desk.page.add_init_script(NO_LONG_TIMERS)
    desk.enter()
    desk.answer("**", {"error": "unauthenticated", "message": "this key does not hold"}, status=401)
    desk.page.get_by_role("link", name="Sessions").click()
    expect(desk.page.get_by_role("alert")).to_contain_text("this key does not hold")
    expect(desk.page.locator("#app")).to_be_hidden()
