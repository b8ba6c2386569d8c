"""Lanes: streams of jobs. ``pool:ID`` is read by all workers of equal capability, ``worker:NAME`` by that one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

POOL: Final = "pool:"
WORKER: Final = "worker:"


def pool_lane(pool: str) -> str:
    """Give the lane of a pool."""
    return POOL + pool


def worker_lane(name: str) -> str:
    """Give the lane of one worker."""
    return WORKER + name


def pool_of(languages: Iterable[str], tiers: Iterable[str], *, policy: str, version: str, image: str) -> str:
    """Give the id of the pool of all workers that can do just this, and do it the same way."""
    what = (sorted(set(languages)), sorted(set(tiers)), policy, version, image)
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:16]
