"""The page at a gateway of a fleet: what its workers do is seen there, and what a gateway does not have is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.admin.desk import Running, ask, send
from tests.daemon import KEY, Daemon, eventually
from tests.dashboard.desk import PARTS, Desk, open_desk
from tests.fleet_world import Fleet, run_fleet

pytestmark = pytest.mark.root

ENDLESS = "import time\nwhile True: time.sleep(100)"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with run_fleet() as running:
        running.start("worker", "w1")
        (gateway,) = running.start("gateway", "g1")
        running.wait_workers(gateway, 1)
        yield running


@pytest.fixture
def gateway(fleet: Fleet) -> Daemon:
    return fleet.members["g1"].daemon


@pytest.fixture
def desk(browser: Browser, gateway: Daemon) -> Iterator[Desk]:
    with open_desk(browser, gateway) as desk:
        yield desk


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_part_opens_at_a_gateway(browser: Browser, gateway: Daemon, colours: str) -> None:
    gateway.execute("open('a.csv', 'w').write('1,2')", user="ada")
    with open_desk(browser, gateway, color_scheme=colours) as desk:
        desk.enter()
        expect(desk.page.locator("#who")).to_contain_text("g1 · gateway")
        for part in PARTS:
            main = desk.go(part)
            desk.known()
            desk.picture(f"gateway-{part.lower()}-{colours}")
            assert desk.faults() == [], part
            expect(main.get_by_role("alert")).to_have_count(0)


def test_an_execution_is_seen_and_ended_on_its_worker(desk: Desk, gateway: Daemon, fleet: Fleet) -> None:
    main = desk.enter("Executions")
    expect(main).to_contain_text("came through this gateway")
    running = Running(gateway, ENDLESS, user="ann")
    row = main.get_by_role("table", name="Running and waiting").get_by_role("row").filter(has_text="ann")
    expect(row).to_contain_text("running")
    row.get_by_role("button", name="Cancel").click()
    desk.page.get_by_role("dialog").get_by_role("button", name="Kill it").click()
    desk.no_dialog()
    ended = main.get_by_role("table", name="Ended").get_by_role("row").filter(has_text="ann")
    expect(ended).to_contain_text("Stopped")
    assert "An operator of this server has ended this execution." in running.answer().body.decode()
    eventually(lambda: fleet.members["w1"].internal("status").json["running"] == 0)


def test_what_a_gateway_does_not_have_is_said(desk: Desk, gateway: Daemon) -> None:
    main = desk.enter("Overview")
    expect(main.locator(".tile").filter(has_text="Running")).to_contain_text("places")
    expect(main).to_contain_text("wait at its workers")
    expect(main.locator(".tile").filter(has_text="free")).to_have_count(0)
    main = desk.go("Network")
    expect(main).to_contain_text("files, the same on every worker")
    expect(main).to_contain_text("gaoler egress log --refused")
    expect(main).not_to_contain_text("does not run")
    assert not any("egress/log" in url for url in desk.requests)
    gateway.execute("open('a', 'w').write('x')", user="bob")
    main = desk.go("Sessions")
    row = main.get_by_role("table", name="Sessions").get_by_role("row").filter(has_text="bob")
    expect(row).to_contain_text("its worker knows")


def test_sessions_keys_and_usage_are_those_of_the_fleet(desk: Desk, gateway: Daemon) -> None:
    session = gateway.upload(("notes.txt", b"hello"), user="cara").json["session_id"]
    main = desk.enter("Sessions")
    main.get_by_label("User").fill("cara")
    main.get_by_role("button", name="Refresh").click()
    rows = main.get_by_role("table", name="Sessions").locator("tbody").get_by_role("row")
    expect(rows).to_have_count(1)
    rows.get_by_role("button", name="Delete").click()
    desk.page.get_by_role("button", name="Delete it").click()
    expect(rows).to_have_count(0)
    assert send(gateway, "DELETE", f"sessions/{session}").status == 404
    assert send(gateway, "POST", "keys", {"name": "shared", "tenant": "acme"}).status == 201
    row = desk.go("Keys").get_by_role("table", name="Keys").get_by_role("row").filter(has_text="shared")
    expect(row).to_contain_text("shared by the fleet")
    gateway.execute("print(1)", user="fred")
    row = desk.go("Usage").get_by_role("table", name="Usage").get_by_role("row").filter(has_text="fred")
    expect(row).to_contain_text("default")


def test_a_worker_is_drained_from_the_page(desk: Desk, gateway: Daemon, fleet: Fleet) -> None:
    main = desk.enter("Workers")
    fleet.start("worker", "w2")
    card = main.get_by_role("region", name="w2")
    expect(card).to_contain_text("ready")
    card.get_by_role("button", name="Drain w2").click()
    desk.page.get_by_role("button", name="Drain it").click()
    expect(card).to_have_count(0)
    assert fleet.members["w2"].daemon.process.wait(timeout=60) == 0
    assert [each["name"] for each in ask(gateway, "workers")["workers"]] == ["w1"]
    assert gateway.request("GET", "/v1/admin/workers", key=KEY).status == 403
