"""One piece of a suite: what is recorded as done, and not done again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from issl_engine.probing.probes.base import ProbeResult


@dataclass(frozen=True, kw_only=True)
class Part:
    """``name`` is its own in the suite; ``key``: all that its results depend on, for JSON."""

    name: str
    key: dict[str, Any]
    make: Callable[[], list[ProbeResult]]
