"""Names and paths on which host, hypervisor and guest agree; no more than that, so that everybody can import it."""

from __future__ import annotations

from typing import Final

PORT: Final = "agent"
GREETING: Final = b"GAOLER GUEST 1\r\n"

# Where things lie in the guest's root, which is read-only.
GAOLER: Final = "/opt/gaoler"
"""The jailer and what it needs, laid out as a virtual environment of the guest's ``/usr/bin/python3``."""
PROGRAM: Final = f"{GAOLER}/bin/gaoler-guest"
"""What the virtual machine executes first."""
PYTHON: Final = f"{GAOLER}/bin/python3"
POLICIES: Final = f"{GAOLER}/policies"
IMAGE: Final = "/image"
"""The runtime image's part that sandboxes see as ``/usr/local``."""
PACKAGES: Final = "/packages"
"""What sandboxes find at ``/opt/packages``; empty if there is nothing."""

# What the jail of a hypervisor has beside the guest's root, see policies/mounts/machine.toml.
ROOT: Final = "/guest"
"""The guest's root once more: what the guest gets to see."""
LIBRARIES: Final = "/machine"
"""Libraries of the hypervisor."""
KVM: Final = "/dev/kvm"
