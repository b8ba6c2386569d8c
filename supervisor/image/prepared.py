"""What languages and groups prepare for themselves, as layers: caches, archives, headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from supervisor.image import enclosed
from supervisor.image.enclosed import Spec, environment_with, run_enclosed
from supervisor.image.ground import Ground
from supervisor.image.layers import LAYERS, LayerPlan, key_of
from supervisor.image.plan import ImagePlan
from supervisor.image.progress import BuildProgress
from supervisor.image.steps import ImageError, Runner
from supervisor.runtimes.catalogue import Group, Language


def prepared_layer(
    plan: ImagePlan,
    ground: Ground,
    wanted: Language | Group,
    below: Sequence[LayerPlan],
    progress: BuildProgress,
    run: Runner,
    *,
    optional: bool,
) -> LayerPlan:
    """Plan what ``prepare`` makes, which sees the layers ``below`` and can write nothing but its own."""
    environment = environment_with(wanted.environment if isinstance(wanted, Language) else None)
    tools = ground.identities(wanted.tools) if isinstance(wanted, Language) else {}
    versions = {name: ground.packages.get(name, "") for name in wanted.packages.debian}
    parts = [wanted.prepare, environment, tools, versions, ground.key, [layer.key for layer in below]]
    kind = "language" if isinstance(wanted, Language) else "group"

    def fill(building: Path) -> None:
        with progress.step(f"Preparing {wanted.title}"):
            spec = Spec(
                usr=str(ground.usr),
                etc=str(ground.etc),
                local=str(building / "local"),
                below=[str(plan.directory / LAYERS / layer.directory / "local") for layer in below],
                command=["sh", "-euc", wanted.prepare],
                environment=environment,
            )
            try:
                run_enclosed(run, spec)
            except ImageError as error:
                raise ImageError(f"{kind} {wanted.name}: what it prepares failed: {error}") from None

    return LayerPlan(f"{kind}-{wanted.name}", key_of(enclosed.VERSION, *parts), fill, optional)
