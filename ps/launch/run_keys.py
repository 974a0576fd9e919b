"""RunKeys: the keys of a run's processes: those of --keys, or new ones for this run alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ps.config import ProcessConfig
from ps.errors import ConfigError
from ps.keys import local_run
from ps.keys.cluster_keys import create_for_run
from ps.protocol.security import Security


class RunKeys:
    """Which folder each process of a run is given."""

    def __init__(self, process: ProcessConfig, directory: Path) -> None:
        """``directory`` is private to this run. Raises ConfigError, above all for a --host that needs more."""
        self._given = process.keys is not None
        self._folder: Path | None = None
        if process.keys is not None:
            self._folder = Path(process.keys).absolute()
            if not (self._folder / "scheduler").is_dir():
                raise ConfigError(f"{self._folder} has no folder scheduler: psctl keys init makes what psctl run needs")
        elif not process.insecure:
            Security().demand_loopback(process.host)
            self._folder = directory / local_run.KEYS
            create_for_run(self._folder)

    def folder(self, role: str, rank: int) -> str | None:
        """Return the folder with the keys of a process; None in a run without any. Raises ConfigError."""
        if self._folder is None:
            return None
        names = [
            name for kind in ((role, "client") if role == "worker" else (role,)) for name in (f"{kind}-{rank}", kind)
        ]
        for name in names:
            if (self._folder / name).is_dir():
                return str(self._folder / name)
        raise ConfigError(f"{self._folder} has no keys for {role} {rank}: psctl keys init with more of them")

    def announce(self, address: str) -> None:
        """Have other commands of this user find the keys that were made for this run."""
        if self._folder is not None and not self._given:
            local_run.announce(address, self._folder)

    @property
    def operator(self) -> str | None:
        """The folder for whoever asks the scheduler, where keys were given; those that were made are found."""
        if not self._given or self._folder is None:
            return None
        operator = self._folder / "operator"
        return str(operator if operator.is_dir() else self._folder / "scheduler")

    def asking(self, fetch: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that asks the scheduler for its status, with keys where they were given."""
        return partial(fetch, keys=self.operator) if self.operator else fetch
