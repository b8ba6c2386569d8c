"""The record of operators' acts: whole on a full disk, bounded, and not to be flooded by strangers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.administration.audit import ACTS_FILE, BURST, REFUSED_FILE, AdminAudit, open_admin_audit
from supervisor.errors import StorageFull
from supervisor.logs.json_lines import LineFile, latest, visible


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(tmp_path: Path, clock: Clock) -> Iterator[AdminAudit]:
    with open_admin_audit(tmp_path, file_bytes=1 << 20, files=2, clock=clock) as opened:
        yield opened


async def test_an_act_that_has_ended_is_one_entry_and_one_that_has_not_is_its_beginning(audit: AdminAudit) -> None:
    ended = audit.open_act("op", "t", "192.0.2.1", "key.make", gives=True)
    ended.begin("a")
    ended.end("done")
    audit.open_act("op", "t", "192.0.2.1", "key.revoke", gives=False).begin("b")
    found = await audit.read("all", 10)
    assert [(each["act"], each["target"], each["outcome"]) for each in found] == [
        ("key.revoke", "b", "begun"),
        ("key.make", "a", "done"),
    ]


@pytest.mark.root
async def test_on_a_full_disk_what_gives_rights_is_refused_and_nothing_is_lost(tmp_path: Path, clock: Clock) -> None:
    # The kernel's own file that is always full.
    os.mknod(tmp_path / ACTS_FILE, stat.S_IFCHR | 0o600, os.makedev(1, 7))
    with open_admin_audit(tmp_path, file_bytes=1 << 20, files=2, clock=clock) as audit:
        giving = audit.open_act("op", "t", "", "key.make", gives=True)
        with pytest.raises(StorageFull):
            giving.begin("a")
        giving.end("refused")
        taking = audit.open_act("op", "t", "", "session.delete", gives=False)
        taking.begin("b")
        taking.end("done")
        acts = [(each.act, each.outcome) for each in audit.unwritten]
        assert acts == [
            (a, o) for a, end in (("key.make", "refused"), ("session.delete", "done")) for o in ("begun", end)
        ]
        (tmp_path / ACTS_FILE).unlink()
        audit.reopen()
        assert [(each["act"], each["outcome"]) for each in await audit.read("acts", 10)] == [acts[3], acts[1]]
        audit.open_act("op", "t", "", "key.revoke", gives=False).begin("c")
        assert not audit.unwritten
        assert [each["act"] for each in await audit.read("acts", 10)] == ["key.revoke", "session.delete", "key.make"]
    assert len((tmp_path / ACTS_FILE).read_text().splitlines()) == 5


async def test_strangers_cannot_push_acts_out_and_are_counted_when_they_are_too_many(
    tmp_path: Path, audit: AdminAudit, clock: Clock
) -> None:
    audit.open_act("op", "t", "", "key.make", gives=True).begin("a")
    for _ in range(10 * BURST):
        audit.refuse("192.0.2.1", "GET /admin/keys", "Unauthenticated")
    assert len((tmp_path / REFUSED_FILE).read_text().splitlines()) == BURST
    clock.now += 1
    audit.refuse("192.0.2.1", "GET /admin/keys", "Unauthenticated")
    (last,) = await audit.read("refused", 1)
    assert last["detail"] == f"Unauthenticated (and {9 * BURST} more before)"
    assert [each["act"] for each in await audit.read("acts", 10)] == ["key.make"]


@given(st.text(max_size=2000))
def test_whatever_is_in_an_entry_is_one_printable_line_that_is_read_again(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert msgspec.json.decode(msgspec.json.encode({"a": shown})) == {"a": shown}
    if text.isprintable():
        assert shown == text


@given(
    st.lists(st.integers(0, 200_000), max_size=60),
    st.integers(1, 4),
    st.integers(100, 300_000),
)
def test_lines_are_read_backwards_whatever_their_lengths(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], files: int, file_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    lines = LineFile(path, file_bytes=file_bytes, files=files)
    for number, length in enumerate(lengths):
        lines.write_line(msgspec.json.encode({"n": number, "text": "x" * length}).decode())
    lines.close()
    found = [each["n"] for each in latest(path, 1 << 30)]
    kept = sum(file.read_bytes().count(b"\n") for file in path.parent.iterdir())
    assert found == list(range(len(lengths)))[::-1][:kept]
    assert len(list(path.parent.iterdir())) <= max(2, files)
    largest = max((file.stat().st_size for file in path.parent.iterdir()), default=0)
    assert largest <= max(file_bytes, max(lengths, default=0) + 40)


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xff\xfe\n{"n": 1}\n[]\n\n{"n"' + b"[" * 100_000 + b'\n{"n": 2}\n{"half": ')
    assert [each["n"] for each in latest(path, 1 << 30)] == [2, 1]
    assert list(latest(tmp_path / "none", 1 << 30)) == []


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "a.jsonl", file_bytes=1 << 30, files=2)
    for number in range(20_000):
        lines.write_line(f'{{"n": {number}, "text": "{"x" * 100}"}}')
    lines.close()
    found = [each["n"] for each in latest(tmp_path / "a.jsonl", 200_000)]
    assert found[0] == 19_999
    assert 1000 < len(found) < 4000
