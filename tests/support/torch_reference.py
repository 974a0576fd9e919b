"""The same small training by torch alone, by torch DDP, and by a job: what they end with is compared.

python torch_reference.py RANK FOLDER: one of DDP's two ranks; rank 0 writes what it ends with into the folder.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

STEPS = 50
WORKERS = 2
CLIP = 0.05
"""A norm below that of every step's gradient."""

CASES: dict[str, tuple[str, dict[str, float], Callable[[Any], torch.optim.Optimizer]]] = {
    "momentum": (
        "momentum:lr=0.05,momentum=0.9,weight_decay=0.01",
        {},
        lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01),
    ),
    "adam": ("adam:lr=0.01", {}, lambda groups: torch.optim.Adam(groups, lr=0.01)),
    "adamw in groups": (
        "adamw:lr=0.01,weight_decay=0.1",
        {},
        lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1),
    ),
    "clipped": (
        "momentum:lr=0.05,momentum=0.9",
        {"clip_norm": CLIP},
        lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9),
    ),
}
"""The job's optimizer, its other settings, and torch's optimizer."""


_SEEDED = threading.Lock()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's numbers from this seed, also where workers that are threads of one process do so at once."""
    with _SEEDED:
        torch.manual_seed(seed)
        yield


def model() -> torch.nn.Module:
    with seeded(0):
        return torch.nn.Sequential(
            torch.nn.Linear(12, 32), torch.nn.Tanh(), torch.nn.LayerNorm(32), torch.nn.Linear(32, 4)
        )


def groups(case: str, net: torch.nn.Module) -> Any:
    if case != "adamw in groups":
        return [{"params": list(net.parameters())}]
    matrices = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
    return [{"params": matrices}, {"params": others, "weight_decay": 0.0, "lr": 0.02}]


def part(step: int, rank: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one worker's half of a step's batch, or with None the whole."""
    random = torch.Generator().manual_seed(step)
    x, y = torch.randn(32, 12, generator=random), torch.randint(4, (32,), generator=random)
    half = slice(None) if rank is None else slice(rank * 16, (rank + 1) * 16)
    return x[half], y[half]


def schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)


def train(case: str, net: torch.nn.Module, rank: int | None = None) -> None:
    """Train with torch, alone on whole batches or, where ``net`` is DDP's, on a rank's halves."""
    optimizer = CASES[case][2](groups(case, net))
    rate = schedule(optimizer)
    for step in range(STEPS):
        x, y = part(step, rank)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        if case == "clipped":
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            assert norm > CLIP
        optimizer.step()
        rate.step()


def flat(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()])


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORKERS
    )
    found = {}
    for case in CASES:
        net = torch.nn.parallel.DistributedDataParallel(model())
        train(case, net, rank)
        found[case] = flat(net)
    if rank == 0:
        torch.save(found, folder / "found.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
