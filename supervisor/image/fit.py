"""What has to be true before sandboxes may run on an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from supervisor.errors import ConfigurationError
from supervisor.image.manifest import Image
from supervisor.image.plan import python_version
from supervisor.image.steps import ImageError
from supervisor.policy import Policy
from supervisor.settings.tree import Settings


def check_python(image: Image) -> None:
    """Compare the Python that packages were installed for with the one that sandboxes would run.

    Raises:
        ConfigurationError: they are not of one version, so no package would be found.
    """
    whose = "its own root" if image.manifest.base == "own" else "this host"
    try:
        version = python_version(image.usr / "bin" / "python3")
    except ImageError as error:
        raise ConfigurationError(f"{image.path}: {error}", field="image_dir") from None
    if version != image.manifest.python:
        raise ConfigurationError(
            f"{image.path} has packages for Python {image.manifest.python}, but {whose} has Python {version}: "
            "run 'gaoler image build'",
            field="image_dir",
        )


def find_init(settings: Settings, image: Image) -> Path:
    """Give the path of the init that holds a jail, inside of one.

    Raises:
        ConfigurationError: it is not in the ``/usr`` that sandboxes see.
    """
    init = Path(settings.jailer.init)
    if not (image.usr / init.relative_to("/usr")).exists():
        fix = "run 'gaoler image build'" if image.manifest.base == "own" else "apt-get install catatonit"
        raise ConfigurationError(f"{init} is missing: {fix}", field="jailer.init")
    return init


def refuse_hosts_files(image: Image, policies: Mapping[str, Policy]) -> None:
    """Hold policies to the promise of an image with a root of its own: of the host's files nothing is seen.

    Raises:
        ConfigurationError: one mounts a path of the host.
    """
    for policy in policies.values() if image.manifest.base == "own" else ():
        for entry in policy.mounts.mount:
            if entry.kind == "bind" and entry.source is not None and entry.source.startswith("/"):
                raise ConfigurationError(
                    f"policy {policy.name} mounts {entry.source} of the host at {entry.target}, but the image has "
                    'a root of its own: for /usr write source = "@usr"'
                )
