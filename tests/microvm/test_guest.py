"""A real guest, mostly on an emulated processor: libkrunfw's kernel, our first program, and the jailer in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio

from supervisor.errors import SandboxFailed
from supervisor.jailer import protocol as jailer
from supervisor.jailer.channels import DATA, ChannelClosed
from supervisor.microvm.protocol import (
    Begun,
    Carry,
    Datagram,
    Egress,
    Failed,
    Finished,
    GuestPlan,
    Wanted,
    decode_word,
    encode,
)
from tests.microvm.harness import Machine, SharedGuest, bash, boot, guest_plan, put, run_in
from tests.microvm.machine_parts import machine_libraries

pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def libraries() -> Path:
    return machine_libraries()


@pytest.fixture(scope="session")
def plan(image_dir: Path) -> GuestPlan:
    """That of an ordinary daemon, with the egress of the policy ``packages``, and a policy ``small``."""
    made = guest_plan(image_dir)
    default = made.policies["default"]
    limits = msgspec.structs.replace(default.limits, memory_bytes=64 << 20, processes=16)
    small = msgspec.structs.replace(default, name="small", limits=limits)
    assert made.compiled is not None
    programs = made.compiled.policies | {"small": made.compiled.policies["default"]}
    return msgspec.structs.replace(
        made,
        egress=True,
        policies=made.policies | {"small": small},
        compiled=msgspec.structs.replace(made.compiled, policies=programs),
    )


@pytest.fixture(scope="session")
def local(image_dir: Path) -> Path:
    return (image_dir / "current").resolve() / "local"


@pytest.fixture(scope="session")
def guest(local: Path, libraries: Path, plan: GuestPlan) -> Iterator[SharedGuest]:
    with SharedGuest(local, libraries, plan) as running:
        yield running


def test_the_kernel_is_the_guests_own(guest: SharedGuest) -> None:
    async def look(machine: Machine) -> str:
        async with machine.jail() as jail:
            return (await bash(jail, "cat /proc/version")).stdout

    version = guest.run(look)
    assert "6.12" in version
    assert "libkrunfw" in version
    assert version != Path("/proc/version").read_text(encoding="ascii")


def test_a_program_is_in_a_jail_of_the_guests(guest: SharedGuest) -> None:
    async def look(machine: Machine) -> str:
        async with machine.jail() as jail:
            script = "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ls /; ls /proc | grep -c ^[0-9]"
            return (await bash(jail, script)).stdout

    uid, *rest = guest.run(look).split("\n")
    assert uid == "1000"
    lines = "\n".join(rest)
    assert "CapEff:\t0000000000000000" in lines
    assert "CapBnd:\t0000000000000000" in lines
    assert "NoNewPrivs:\t1" in lines
    assert "Seccomp:\t2" in lines
    assert "opt" in rest
    assert "guest" not in rest
    assert "machine" not in rest


def test_python_prints_and_has_its_libraries(guest: SharedGuest) -> None:
    async def run(machine: Machine) -> str:
        async with machine.jail(profile="python") as jail:
            await put(jail, b"main.py", b"import numpy; print(numpy.arange(4).sum())", area="code")
            ran = await run_in(jail, jailer.RunScript())
            assert ran.outcome == jailer.RunExited(code=0), ran.stderr
            return ran.stdout

    assert guest.run(run) == "6\n"


def test_files_go_in_and_come_out(guest: SharedGuest) -> None:
    content = os.urandom(3 << 20)

    async def run(machine: Machine) -> tuple[bytes, list[bytes]]:
        async with machine.jail() as jail:
            await put(jail, b"in.bin", content)
            ran = await bash(jail, "cat in.bin in.bin > out.bin")
            assert ran.outcome == jailer.RunExited(code=0), ran.stderr
            manifest = await jail.scan()
            async with jail.get_file(b"out.bin") as (size, pieces):
                found = b"".join([piece async for piece in pieces])
                assert size == len(found)
            return found, sorted(each.untrusted_name for each in manifest.entries)

    found, names = guest.run(run)
    assert found == content + content
    assert names == [b"in.bin", b"out.bin"]


def test_a_program_in_the_background_is_found_by_the_number_of_its_jail(guest: SharedGuest) -> None:
    async def run(machine: Machine) -> bytes:
        # The first one makes the numbers here and in the guest differ.
        async with machine.jail(), machine.jail() as jail:
            assert (await bash(jail, "true", then="sweep")).outcome == jailer.RunExited(code=0)
            said = b""
            async with jail.open_background(["/bin/cat", "/proc/version"], {}, "bash") as program:
                while isinstance(word := await program.next(), jailer.Output):
                    said += word.data
                assert word == jailer.BackgroundEnded(code=0, signal=None)
            return said

    assert b"libkrunfw" in guest.run(run)


def test_limits_hold_by_the_guests_own_cgroups(guest: SharedGuest) -> None:
    async def run(machine: Machine) -> tuple[jailer.RunOutcome, str]:
        async with machine.jail("small") as jail:
            greedy = await bash(jail, "python3 -c 'kept = []\nwhile True: kept.append(bytes(1 << 20) + bytes([1]))'")
        async with machine.jail("small") as jail:
            crowd = await bash(jail, "for i in $(seq 20); do sleep 100 & done; echo all")
        return greedy.outcome, crowd.stderr

    outcome, complaint = guest.run(run)
    assert isinstance(outcome, jailer.RunOutOfMemory)
    assert "fork" in complaint


def test_the_clock_is_the_hosts_and_can_be_set_anew(guest: SharedGuest) -> None:
    async def seconds(machine: Machine) -> int:
        async with machine.jail() as jail:
            return int((await bash(jail, "date +%s")).stdout)

    async def run(machine: Machine) -> None:
        before = time.time()
        now = await seconds(machine)
        # What the look itself takes is no fault of the clock.
        assert before - 20 < now < time.time() + 20
        began = time.monotonic()
        await machine.set_clock(2_000_000_000 * 10**9)
        later = await seconds(machine)
        took = time.monotonic() - began
        await machine.set_clock(time.time_ns())
        assert 0 <= later - 2_000_000_000 < took + 20

    guest.run(run)


def test_connections_and_datagrams_reach_the_host_and_are_answered(guest: SharedGuest) -> None:
    script = (
        "exec 3<>/dev/tcp/192.0.2.7/80; printf 'question\\n' >&3; read -r answer <&3; echo \"$answer\";"
        " exec 4<>/dev/udp/192.0.2.8/53; printf 'who' >&4; head -c 2 <&4"
    )

    async def run(machine: Machine) -> str:
        egress = await machine.channel(Egress())
        said: list[str] = []
        async with machine.jail("packages") as jail, trio.open_nursery() as nursery:
            await jail.connect("0" * 32, [])

            async def program() -> None:
                ran = await bash(jail, script)
                said.append(ran.stdout + ran.stderr)

            nursery.start_soon(program)
            wanted = decode_word(await egress.receive_message())
            assert isinstance(wanted, Wanted)
            assert (wanted.address, wanted.port) == ("192.0.2.7", 80)
            carried = await machine.channel(Carry(number=wanted.number))
            assert await carried.receive() == (DATA, b"question\n")
            await carried.send_data(b"answer\n")
            await carried.send_message(encode(Finished()))
            asked = decode_word(await egress.receive_message())
            assert isinstance(asked, Datagram)
            assert (asked.address, asked.port, asked.payload) == ("192.0.2.8", 53, b"who")
            await egress.send_message(encode(msgspec.structs.replace(asked, payload=b"me")))
        await carried.aclose()
        return said[0]

    assert guest.run(run) == "answer\nme"


async def test_another_guest_has_its_own_random_numbers_and_its_end_ends_its_jails(
    guest: SharedGuest, local: Path, libraries: Path, plan: GuestPlan
) -> None:
    script = "cat /proc/sys/kernel/random/uuid; od -A n -t x8 -N 8 /dev/urandom"

    async def numbers(machine: Machine) -> set[str]:
        async with machine.jail() as jail:
            return set((await bash(jail, script)).stdout.split())

    bare = msgspec.structs.replace(plan, profiles=[], pools=[], egress=False)
    async with boot(local, libraries, memory_mib=512) as other:
        assert await other.begin(bare) == Begun()
        both = await trio.to_thread.run_sync(guest.run, numbers) | await numbers(other)
        assert len(both) == 4
        async with other.jail() as jail:
            assert (await bash(jail, "true", then="sweep")).outcome == jailer.RunExited(code=0)
            other.process.kill()
            with pytest.raises(SandboxFailed):
                await bash(jail, "true")
        await other.connection.ended.wait()


async def test_a_jailer_that_refuses_to_start_is_told_with_its_reason_and_the_guest_ends_with_its_port(
    local: Path, libraries: Path, plan: GuestPlan
) -> None:
    broken = msgspec.structs.replace(
        plan,
        policies={"default": plan.policies["default"]},
        seccomp_profiles={"broken": "POLICY { no such call }"},
        compiled=None,
        profiles=[],
        pools=[],
    )
    async with boot(local, libraries, memory_mib=512) as machine:
        answer = await machine.begin(broken)
        assert isinstance(answer, Failed)
        assert "refuses to start" in answer.reason
        await machine.log_has("seccomp policy")
        with trio.fail_after(60):
            await machine.close_port()
            await machine.wait()


async def test_a_host_that_breaks_the_protocol_has_no_guest_any_more(local: Path, libraries: Path) -> None:
    async with boot(local, libraries, memory_mib=512) as machine:
        channel = await machine.channel(Egress())
        with pytest.raises(ChannelClosed), trio.fail_after(60):
            await channel.receive()
        with trio.fail_after(60):
            await machine.wait()
        await machine.log_has("the first message is no Begin")
