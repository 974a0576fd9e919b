"""What a job is given on Ray, from a call or a command line, as Ray takes it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ps.dataclass import dataclass
from ps.errors import ConfigError

Bundle = Mapping[str, float]
"""What a process is given, as Ray has it: CPU, GPU, memory in bytes, and resources with names of one's own."""
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
MOST = 1e15
"""Of any resource, at most: memory in bytes."""


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Where a job runs on Ray, and what it takes there. Sizes are those of Ray: CPU may be a part of one."""

    worker: Bundle
    server: Bundle
    address: str = "auto"
    strategy: str = "PACK"
    wait: float = 120.0
    """Seconds to wait for resources."""
    retries: int = 3
    """How often a job that keeps something begins again when it has lost what it cannot go on without."""
    working_dir: str | None = None
    """A folder to send to all nodes, where processes then work."""
    env: tuple[tuple[str, str], ...] = ()


def read_options(
    worker: Mapping[str, float] | None,
    server: Mapping[str, float] | None,
    address: str,
    strategy: str,
    wait: float,
    retries: int,
    working_dir: str | None,
    env: Mapping[str, str] | None,
    caller: str,
) -> RayOptions:
    """Return the options. Raises ConfigError for what cannot be."""
    if strategy.upper() not in STRATEGIES:
        raise ConfigError(f"{caller}: strategy {strategy!r:.60} is none; there are {', '.join(STRATEGIES)}")
    if not 0 < wait < MOST:
        raise ConfigError(f"{caller}: wait = {wait!r:.60} must be a number of seconds")
    for name, value in (env or {}).items():
        if not name or "=" in name or "\0" in f"{name}{value}":
            raise ConfigError(f"{caller}: env has {name!r:.60}, which is no variable's name and value")
    return RayOptions(
        check_bundle(worker, f"{caller}: resources"),
        check_bundle(server, f"{caller}: server_resources"),
        address,
        strategy.upper(),
        float(wait),
        int(retries),
        working_dir,
        tuple((env or {}).items()),
    )


def check_bundle(amounts: Mapping[str, float] | None, what: str) -> Bundle:
    """Return what a process is given, a CPU if nothing is said. Raises ConfigError for amounts that are none."""
    found = {"CPU": 1.0, **(amounts or {})}
    for name, amount in found.items():
        is_number = isinstance(amount, int | float) and math.isfinite(amount) and 0 <= amount <= MOST
        if not isinstance(name, str) or not name or not is_number:
            raise ConfigError(f"{what} has {name!r:.60} = {amount!r:.60}, which is no name and amount")
        if amount > 1 and amount != int(amount):
            raise ConfigError(f"{what} has {name} = {amount:g}: Ray divides one of it, and no more than one")
    return {name: amount for name, amount in found.items() if amount}
