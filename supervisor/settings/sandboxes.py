"""Settings of what contains programs: their network, virtual machines, and the privileged part."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Struct

from supervisor.settings.meta import FILE_RULE, meta

NAMES_RULE: Final = r"^$|^[A-Za-z0-9][A-Za-z0-9_.+#:-]{0,127}(,[A-Za-z0-9][A-Za-z0-9_.+#:-]{0,127})*$"


class EgressSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[egress]``: the network of sandboxes whose policy has one; what it leads to are the rules of the policy."""

    connections: Annotated[int, meta("of one sandbox at once; more wait", ge=1, le=4096)] = 64
    total_bytes: Annotated[int, meta("both ways, of one sandbox in its life", ge=1, le=1 << 50)] = 4 << 30
    idle_seconds: Annotated[float, meta("a connection on which nothing comes is cut after it", gt=0, le=86_400)] = 120.0
    connection_seconds: Annotated[float, meta("longest connection", gt=0, le=7 * 86_400)] = 3600.0
    connect_seconds: Annotated[float, meta("longest time to reach a server", gt=0, le=120)] = 10.0
    queries_per_second: Annotated[float, meta("names that one sandbox may ask for; more wait", gt=0, le=100_000)] = 50.0
    records_per_second: Annotated[
        float, meta("decisions of one sandbox, each way, that are written; more are counted", gt=0, le=100_000)
    ] = 20.0
    name_servers: Annotated[
        str, meta("addresses of name servers, separated by commas; empty: the host's", pattern=r"^[0-9A-Fa-f.:,]*$")
    ] = ""
    credentials_dir: Annotated[
        str, meta("directory with one file for each credential that rules name", pattern=FILE_RULE)
    ] = ""
    authorities: Annotated[
        str,
        meta("certificate authorities (PEM) of servers behind intercepted TLS; empty: the host's", pattern=FILE_RULE),
    ] = ""
    audit_bytes: Annotated[int, meta("largest file of the audit", ge=4096, le=1 << 40)] = 16 << 20
    audit_files: Annotated[int, meta("files of the audit that are kept", ge=1, le=1000)] = 8


class MicrovmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[microvm]``: sandboxes with a kernel of their own, see docs/microvm.md.

    Whoever is named here, a policy of that tier and a key of it need ``enabled``; nothing falls back to a lower tier.
    """

    enabled: Annotated[bool, meta("give sandboxes in virtual machines to those who ask; the host needs KVM")] = False
    languages: Annotated[
        str, meta("languages whose every execution is in one, separated by commas; empty: none", pattern=NAMES_RULE)
    ] = ""
    tenants: Annotated[
        str, meta("tenants whose every execution is in one, separated by commas; empty: none", pattern=NAMES_RULE)
    ] = ""
    memory_mib: Annotated[int, meta("memory of a machine, of guest and sandbox together", ge=256, le=1 << 18)] = 1536
    vcpus: Annotated[int, meta("processors that a machine sees; libkrunfw's kernel knows 8", ge=1, le=8)] = 2
    waiting: Annotated[int, meta("booted machines that wait for a session, at least one", ge=1, le=256)] = 1
    max: Annotated[int, meta("machines at once, waiting ones too; more are refused with 503", ge=1, le=4096)] = 8
    memory_budget_mib: Annotated[int, meta("memory of all machines together", ge=256, le=1 << 26)] = 8192
    boot_seconds: Annotated[float, meta("a machine that is not up after it is given up", gt=0, le=600)] = 20.0
    library: Annotated[str, meta("libkrun.so, 1.17 or newer; empty: the runtime image's", pattern=FILE_RULE)] = ""
    kernel: Annotated[str, meta("libkrunfw.so.5, the guest's kernel; empty: the image's", pattern=FILE_RULE)] = ""


class JailerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[jailer]``: users and sizes of the privileged part."""

    subordinate_uids: Annotated[
        str, meta("FIRST:COUNT, uids that belong to nobody else", pattern=r"^[0-9]{4,9}:[0-9]{4,7}$")
    ] = "200000:65536"
    daemon_uid: Annotated[int, meta("uid of the daemon, that of no person", ge=1, le=(1 << 32) - 2)] = 199_999
    builders: Annotated[int, meta("jails that are built at once", ge=1, le=64)] = 3
    max_jails: Annotated[int, meta("jails that exist at once", ge=1, le=4096)] = 1024
    policy_dir: Annotated[str, meta("folder of policies; empty: the ones that come with Gaoler")] = ""
    init: Annotated[str, meta("reaping init inside a jail, seen there under this path", pattern=r"^/usr/")] = (
        "/usr/bin/catatonit"
    )
