"""Decisions that are functions: names, access, limits, outcomes, capture, admission, policies, settings."""

from __future__ import annotations

import shutil
import string
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from http_api.answers import execution
from supervisor.admission.admission import Admission
from supervisor.admission.fair_queue import FairQueue, QueueLimits, Standing, Ticket
from supervisor.admission.pressure import HostLimits, Pressure
from supervisor.errors import Busy, ConfigurationError, InvalidRequest
from supervisor.execution.values import (
    CapturedOutput,
    ExecutionResult,
    Exited,
    Owner,
    Principal,
    SessionId,
    SkippedFile,
    Usage,
    is_id,
    new_id,
)
from supervisor.execution.wording import explanation
from supervisor.identity.access import may_use, owner_of
from supervisor.jailer.capture import StreamCapture
from supervisor.jailer.cgroup import values_v1, values_v2
from supervisor.jailer.pool_size import PoolSize
from supervisor.policy import PACKAGED_POLICIES, load_policies
from supervisor.settings.loading import leaves, load
from supervisor.workspace.names import check_name, name_fault

ANN, BOB, NOBODY = (Principal("t", "key", user) for user in ("ann", "bob", None))
CALM = Pressure(HostLimits(0, 0.0, 100.0, 0, 0))


@pytest.mark.parametrize(
    ("principal", "owner", "allowed"),
    [
        (ANN, Owner("t", "user", "ann"), True),
        (BOB, Owner("t", "user", "ann"), False),
        (NOBODY, Owner("t", "user", "ann"), True),
        (BOB, Owner("t", "agent", "a1"), True),
        (BOB, Owner("t", "skill", "s1", 3), True),
        (BOB, Owner("t", "tenant"), True),
        (Principal("other", "key", "ann"), Owner("t", "user", "ann"), False),
        (Principal("other", "key"), Owner("t", "tenant"), False),
    ],
)
def test_access_follows_tenant_and_user(principal: Principal, owner: Owner, allowed: bool) -> None:
    assert may_use(principal, owner) is allowed


@pytest.mark.parametrize(
    ("principal", "asked", "owner"),
    [
        (ANN, {}, Owner("t", "user", "ann")),
        (ANN, {"kind": "user", "resource_id": "bob"}, Owner("t", "user", "ann")),
        (NOBODY, {"kind": "user", "resource_id": "bob"}, Owner("t", "user", "bob")),
        (NOBODY, {}, Owner("t", "tenant")),
        (ANN, {"kind": "agent", "resource_id": "a1", "version": 2}, Owner("t", "agent", "a1")),
        (ANN, {"kind": "skill", "resource_id": "s1", "version": 2}, Owner("t", "skill", "s1", 2)),
        (ANN, {"kind": "agent"}, Owner("t", "user", "ann")),
    ],
)
def test_what_is_made_belongs_to_the_caller_or_is_shared(
    principal: Principal, asked: dict[str, Any], owner: Owner
) -> None:
    assert owner_of(principal, **asked) == owner


@given(st.text(max_size=300))
def test_a_name_that_passes_stays_beneath_its_directory(name: str) -> None:
    if name_fault(name) is None:
        assert check_name(name) == name
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert name.encode()
        assert name.isprintable() or not any(ord(character) < 32 for character in name)


@pytest.mark.parametrize(
    "name", ["a.csv", "a/b/c.txt", "-rf", " leading", "\u00fc\u4e2d.txt", ".hidden", "a" * 255, "CON", "%2e%2e"]
)
def test_strange_but_harmless_names_are_kept(name: str) -> None:
    assert check_name(name) == name


def test_a_bad_name_names_the_field_and_the_rule() -> None:
    with pytest.raises(InvalidRequest, match="direction") as caught:
        check_name("a\u202eb", field="files[3].name")
    assert caught.value.field == "files[3].name"


def test_ids_have_the_form_that_librechat_wants() -> None:
    made = {new_id() for _ in range(2000)}
    assert len(made) == 2000
    assert all(map(is_id, made))
    # A command would take one that begins with a dash for an option.
    assert {each[0] for each in made} == set(string.ascii_letters + string.digits)
    assert {each[-1] for each in made} > {"-", "_"}
    assert not any(map(is_id, ["", "a" * 20, "a" * 22, "a" * 20 + "/", "a" * 20 + "\n", "\u00e4" * 21]))


@given(st.lists(st.binary(max_size=50), max_size=30), st.integers(2, 64))
def test_capture_keeps_head_and_tail_and_counts_the_rest(pieces: list[bytes], keep: int) -> None:
    capture = StreamCapture(keep, 1000)
    head = b"".join(capture.feed(piece) for piece in pieces)
    omitted, tail = capture.finish()
    whole = b"".join(pieces)
    assert len(head) + omitted + len(tail) == len(whole)
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) + len(tail) <= keep
    if len(whole) <= keep:
        assert head + tail == whole
    assert capture.flooded is (len(whole) > 1000)


def test_a_cut_in_the_middle_of_a_character_shows_no_garbage() -> None:
    text = CapturedOutput("\u00fc".encode()[:1], "\u00fc".encode()[1:] + b"x", 10).text()
    assert text == "\n[... 10 bytes omitted ...]\nx"


def test_limits_become_these_cgroup_values() -> None:
    limits = load_policies()["default"].limits
    assert values_v1(limits) == (
        ("memory", "memory.limit_in_bytes", "1073741824"),
        ("memory", "memory.memsw.limit_in_bytes", "1073741824"),
        ("memory", "memory.swappiness", "0"),
        ("memory", "memory.kmem.tcp.limit_in_bytes", "33554432"),
        ("pids", "pids.max", "128"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "100000"),
        ("cpu", "cpu.cfs_burst_us", "100000"),
        ("cpu", "cpu.shares", "128"),
    )
    assert values_v2(limits) == (
        ("memory.max", "1073741824"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("pids.max", "128"),
        ("cpu.max", "100000 100000"),
        ("cpu.max.burst", "100000"),
        ("cpu.weight", "128"),
    )


def test_a_success_says_nothing_and_skips_are_said() -> None:
    assert explanation(Exited(0)) is None
    skipped = tuple(SkippedFile(f"f{number}", "a reason") for number in range(25))
    result = ExecutionResult(
        SessionId("s"), Exited(0), CapturedOutput(), CapturedOutput(b"no newline"), Usage(), skipped=skipped
    )
    stderr = execution(result)["stderr"]
    assert stderr.startswith("no newline\n[gaoler] not kept: f0 (a reason)\n")
    assert stderr.endswith("[gaoler] not kept: 5 more\n")


ANN, BOB, EVE = Principal("t", "k", "ann"), Principal("t", "k", "bob"), Principal("other", "k", "eve")


async def test_admission_queues_in_order_and_refuses_what_is_too_much() -> None:
    admission = Admission(QueueLimits(1, 1, 1, 1), CALM, queue_seconds=60)
    order: list[int] = []

    async def work(number: int) -> None:
        async with admission.place(ANN):
            order.append(number)
            await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        async with admission.place(ANN):
            nursery.start_soon(work, 1)
            await trio.testing.wait_all_tasks_blocked()
            assert (admission.running, admission.waiting) == (1, 1)
            with pytest.raises(Busy) as caught:
                async with admission.place(ANN):
                    pass
            assert caught.value.retry_after_seconds > 0
    assert order == [1]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_wait_that_is_too_long_or_cancelled_gives_its_place_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    admission = Admission(QueueLimits(1, 1, 5, 5), CALM, queue_seconds=3)
    async with admission.place(ANN):
        with pytest.raises(Busy):
            async with admission.place(ANN):
                pass
        with trio.move_on_after(1):
            async with admission.place(ANN):
                pass
    assert (admission.running, admission.waiting) == (0, 0)


def test_a_flood_of_one_waits_for_itself_and_the_others_go_between() -> None:
    queue = FairQueue(QueueLimits(places=4, places_per_principal=3, waiting=20, waiting_per_principal=10))
    flood = [queue.enter(ANN) for _ in range(13)]
    assert [isinstance(each, tuple) and each[1] for each in flood] == [True] * 3 + [False] * 10
    assert queue.enter(ANN) == "you have too many executions waiting"
    # One place is left for somebody else, who does not wait behind the flood.
    other = queue.enter(EVE)
    assert isinstance(other, tuple)
    assert other[1]
    waiting = queue.enter(BOB)
    assert isinstance(waiting, tuple)
    assert not waiting[1]
    first = flood[0]
    assert isinstance(first, tuple)
    assert queue.leave(first[0], 1.0) == [waiting[0]]


def test_the_tenant_with_the_fewest_running_is_next() -> None:
    queue = FairQueue(QueueLimits(places=2, places_per_principal=2, waiting=20, waiting_per_principal=10))
    running = [queue.enter(each) for each in (ANN, BOB)]
    waiting = {each: queue.enter(each) for each in (ANN, BOB, EVE)}
    tickets = {name: ticket[0] for name, ticket in waiting.items() if isinstance(ticket, tuple)}
    first, second = (each[0] for each in running if isinstance(each, tuple))
    assert queue.leave(first, 1.0) == [tickets[EVE]]
    # Of one tenant's users, the one with fewer running.
    assert queue.leave(second, 1.0) == [tickets[ANN]]


def test_the_share_is_halved_by_each_user_and_each_execution_and_crowds_are_modest() -> None:
    queue = FairQueue(QueueLimits(places=8, places_per_principal=6, waiting=9, waiting_per_principal=9))

    def begin(principal: Principal) -> Standing:
        decision = queue.enter(principal)
        assert isinstance(decision, tuple)
        assert decision[1]
        return queue.standing(decision[0])

    assert begin(ANN) == Standing(share=1.0, modest=False)
    assert begin(ANN) == Standing(share=0.5, modest=True)
    assert begin(BOB) == Standing(share=0.5, modest=False)
    assert [begin(ANN).share for _ in range(2)] == [1 / 6, 1 / 8]
    # A tenant that is alone takes nothing from others; once there is another one, it does.
    assert begin(Principal("t", "k", "tom")) == Standing(share=1 / 3, modest=False)
    assert begin(EVE) == Standing(share=1.0, modest=False)
    assert begin(Principal("t", "k", "tim")) == Standing(share=1 / 4, modest=True)


@given(st.lists(st.tuples(st.sampled_from([ANN, BOB, EVE]), st.integers(0, 3)), max_size=60))
def test_admission_never_breaks_a_bound_and_never_forgets_anybody(steps: list[tuple[Principal, int]]) -> None:
    limits = QueueLimits(places=3, places_per_principal=2, waiting=4, waiting_per_principal=3)
    queue = FairQueue(limits)
    running: list[Ticket] = []
    waiting: list[Ticket] = []
    for principal, action in steps:
        if action == 0 and running:
            begun = queue.leave(running.pop(0), 1.0)
            running += begun
            waiting = [each for each in waiting if each not in begun]
        elif action == 1 and waiting:
            queue.give_up(waiting.pop())
        else:
            decision = queue.enter(principal)
            if not isinstance(decision, str):
                (running if decision[1] else waiting).append(decision[0])
        assert queue.total_running == len(running) <= limits.places
        assert queue.total_waiting == len(waiting) <= limits.waiting
        assert max(queue.running.values(), default=0) <= limits.places_per_principal
        # Whoever waits does so for a reason.
        assert len(running) == limits.places or all(queue.running[each.key] >= 2 for each in waiting)
    while running:
        running += queue.leave(running.pop(), 1.0)
    assert (queue.total_running, queue.total_waiting) == (0, 0)


def test_a_pool_grows_with_misses_and_shrinks_when_it_is_calm() -> None:
    size = PoolSize(floor=2, ceiling=10)
    for now in range(8):
        size.missed(float(now))
    assert size.target == 10
    size.idle(45.0)
    assert size.target == 10  # there were misses in the time that has ended
    size.claimed(left=8, now=50.0)
    size.idle(80.0)
    assert size.target == 6
    for now in range(80, 800, 40):
        size.claimed(left=size.target - 1, now=float(now))
    assert size.target == 2


POLICY_FAULTS = [
    ("sandbox/default.toml", 'seccomp = "default"', 'seccomp = "none"', "seccomp/none.kafel"),
    ("sandbox/default.toml", 'tier = "nsjail"', 'tier = "docker"', "tier"),
    ("sandbox/default.toml", 'network = "none"', 'network = "host"', "network"),
    ("sandbox/default.toml", "processes = 128", "processes = 0", "processes"),
    ("sandbox/default.toml", "processes = 128", "", "processes"),
    ("sandbox/default.toml", "processes = 128", "processes = 128\nextra = 1", "extra"),
    ("sandbox/default.toml", "memory_bytes = 1073741824", "memory_bytes = 67108864", "temporary_bytes"),
    ("sandbox/default.toml", "output_kill_bytes = 67108864", "output_kill_bytes = 2048", "output_kill_bytes"),
    ("sandbox/default.toml", "tier", "tier tier", "default.toml"),
    ("mounts/default.toml", 'source = "@usr"', 'source = "@usr"\nwritable = true', "writable"),
    ("mounts/default.toml", 'target = "/usr"', 'target = "usr"', "target"),
    ("mounts/default.toml", 'target = "/"\n', 'target = "/x"\n', "root"),
    ("mounts/default.toml", 'source = "@image"', 'source = "@host"', "source"),
    ("mounts/default.toml", 'claim = "FS-READONLY"', "", "claim"),
]


@pytest.mark.parametrize(("file", "old", "new", "named"), POLICY_FAULTS)
def test_a_broken_policy_refuses_and_names_the_place(tmp_path: Path, file: str, old: str, new: str, named: str) -> None:
    shutil.copytree(PACKAGED_POLICIES, tmp_path / "p")
    path = tmp_path / "p" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        load_policies(tmp_path / "p")
    assert named in caught.value.message


def test_no_policy_at_all_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no policy"):
        load_policies(tmp_path)


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "g.toml"
    file.write_text(
        'bind = "127.0.0.1:1"\nstate_dir = "/a"\n[files]\nretention_hours = 5\n[execution]\nconcurrent = 3\n'
    )
    environment = {"GAOLER_STATE_DIR": "/b", "GAOLER_FILES_RETENTION_HOURS": "6", "PATH": "x"}
    loaded = load(file=file, environment=environment, flags={"state_dir": "/c", "bind": None})
    assert (loaded.settings.bind, loaded.settings.state_dir) == ("127.0.0.1:1", "/c")
    assert (loaded.settings.files.retention_hours, loaded.settings.execution.concurrent) == (6.0, 3)
    assert loaded.origins["bind"] == str(file)
    assert loaded.origins["state_dir"] == "flag"
    assert loaded.origins["files.retention_hours"] == "environment GAOLER_FILES_RETENTION_HOURS"
    assert loaded.origins["log.level"] == "default"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bnid = 'x'", "bind"),
        ("[files]\nretention = 1", "files.retention"),
        ("bind = 7", "bind = 7"),
        ("bind = 'nonsense'", "HOST:PORT"),
        ("bind = '127.0.0.1:99999'", "65535"),
        ("[execution]\nconcurrent = 0", "at least 1"),
        ("[execution]\nconcurrent = 'many'", "a whole number"),
        ("[log]\nlevel = 'LOUD'", "one of DEBUG, INFO, WARNING, ERROR"),
        ("state_dir = 'relative'", "state_dir"),
        ("api_key = 'short'", "at least 16"),
        ("bind = '0.0.0.0:80'\n[http]\nauthentication = false", "loopback"),
        ("[jailer]\nsubordinate_uids = '100:65536'", "subordinate_uids"),
        ("[jailer]\nsubordinate_uids = '190000:65536'", "daemon_uid"),
        ("not toml", "g.toml"),
    ],
)
def test_a_bad_setting_refuses_and_says_what_is_allowed(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "g.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file=file, environment={}, flags={})
    assert named in caught.value.message


def test_an_unknown_variable_refuses_and_a_secret_is_never_shown() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'GAOLER_BIND'"):
        load(file=None, environment={"GAOLER_BIN": "x"}, flags={})
    with pytest.raises(ConfigurationError) as caught:
        load(file=None, environment={"GAOLER_API_KEY": "hush-hush"}, flags={})
    assert "hush" not in caught.value.message


def test_every_setting_is_described_and_has_rules_in_words() -> None:
    for leaf in leaves():
        assert leaf.description
        assert leaf.allowed
        assert leaf.variable.startswith("GAOLER_")
