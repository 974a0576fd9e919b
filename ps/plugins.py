"""Plug-ins: optimizers, codecs, aggregators, algorithms, transports and the like from modules of a user's own.

A plug-in is a module that registers dataclasses (a transport is any class) when it is imported:

from ps.dataclass import dataclass
from ps.plugins import aggregator, number

@aggregator("first")
@dataclass(frozen=True, slots=True)
class First:
    ...

Each role imports the modules that its own command line, environment or file names (``--plugin``, ``PS_PLUGINS``,
``plugins`` in the TOML file). What travels is text that names what is registered: nothing that was received is ever
imported. The interfaces are ``ps.optim.Optimizer``, ``ps.optim.schedule.Shape``, ``ps.compress.Codec``,
``ps.aggregators.Aggregator``, ``ps.algorithms.algorithm.Definition``, ``ps.partition.Partitioner``,
``ps.track.ExperimentTracker`` and ``ps.protocol.transports.transport.Transport``.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.compress import CODECS
from ps.config.transport import TRANSPORTS, TransportTraits
from ps.errors import ConfigError
from ps.number import number
from ps.optim import OPTIMIZERS, SCHEDULES
from ps.partition import PARTITIONERS
from ps.spec import Registry
from ps.track import TRACKERS

__all__ = [
    "aggregator",
    "algorithm",
    "codec",
    "load",
    "number",
    "optimizer",
    "partition",
    "schedule",
    "tracker",
    "transport",
]

D = TypeVar("D", bound=type[Any])


def _adder(registry: Registry[Any], name: str) -> Callable[[D], D]:
    def add(definition: D) -> D:
        registry.add(name, definition)
        return definition

    return add


def optimizer(name: str) -> Callable[[D], D]:
    """Register a dataclass as the optimizer of this name. ConfigError when there is another already."""
    return _adder(OPTIMIZERS, name)


def schedule(name: str) -> Callable[[D], D]:
    """Register a dataclass as the learning-rate schedule of this name."""
    return _adder(SCHEDULES, name)


def codec(name: str) -> Callable[[D], D]:
    """Register a dataclass as the compression of this name."""
    return _adder(CODECS, name)


def aggregator(name: str) -> Callable[[D], D]:
    """Register a dataclass as the aggregator of this name."""
    return _adder(AGGREGATORS, name)


def algorithm(name: str) -> Callable[[D], D]:
    """Register a dataclass, whose ``build()`` returns an ``Algorithm``, as the federated algorithm of this name."""
    return _adder(ALGORITHMS, name)


def partition(name: str) -> Callable[[D], D]:
    """Register a dataclass as the way to divide data of this name."""
    return _adder(PARTITIONERS, name)


def tracker(name: str) -> Callable[[D], D]:
    """Register a dataclass as the tracker of this name, for ``--track``."""
    return _adder(TRACKERS, name)


def transport(name: str, *, shares_memory: bool = False) -> Callable[[D], D]:
    """Register a class as the transport of this name, to be demanded, or taken where no other works."""

    def add(definition: D) -> D:
        traits = TransportTraits(f"{definition.__module__}:{definition.__qualname__}", shares_memory)
        if not name.isidentifier() or TRANSPORTS.setdefault(name, traits) != traits:
            raise ConfigError(f"transport {name!r}: a name of its own, of letters, digits and underscores")
        return definition

    return add


def load(modules: Iterable[str]) -> None:
    """Import modules, found in the current directory or wherever Python looks; ConfigError when one cannot be."""
    for module in modules:
        with _current_directory_first():
            try:
                importlib.import_module(module)
            except ConfigError as error:
                raise ConfigError(f"plug-in {module}: {error}") from None
            except Exception as error:
                raise ConfigError(f"plug-in {module} cannot be imported: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _current_directory_first() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
