"""The keys of a whole cluster, made in one place: each process's in a folder of its own, which lists whom it needs."""

from __future__ import annotations

from pathlib import Path

from ps.keys import key_folder
from ps.keys.public_keys import PublicKeys

SCHEDULER, OPERATOR = "scheduler", "operator"


def create_cluster(
    path: Path, servers: int, workers: int, role: str = "worker", *, signing: bool = True
) -> list[PublicKeys]:
    """Make folders ``scheduler``, ``operator``, ``server-0`` … and ``worker-0`` … below ``path``; return the keys.

    The scheduler lists all, all others the scheduler: it tells them about each other. Raises ConfigError.
    """
    names = {SCHEDULER: SCHEDULER, OPERATOR: OPERATOR}
    names |= {f"server-{at}": "server" for at in range(servers)}
    names |= {f"{role}-{at}": role for at in range(workers)}
    made = [key_folder.create(path / name, name, of, signing=signing).public for name, of in names.items()]
    for each in made[1:]:
        key_folder.place(path / SCHEDULER, each.name, [each])
        key_folder.place(path / each.name, SCHEDULER, [made[0]])
        if each.role == "server":
            key_folder.place(path / OPERATOR, each.name, [each])  # for psctl ping
    return made


def create_for_run(path: Path) -> None:
    """Make keys for one run on one host, which sign nothing: a pair for each role. Raises ConfigError."""
    names = (SCHEDULER, OPERATOR, "server", "worker", "helper")
    made = {name: key_folder.create(path / name, name, name, signing=False).public for name in names}
    for name, public in made.items():
        if name != SCHEDULER:
            key_folder.place(path / SCHEDULER, name, [public], durable=False)
            key_folder.place(path / name, SCHEDULER, [made[SCHEDULER]], durable=False)
