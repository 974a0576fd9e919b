"""Promises of jobs that read from a torch DataLoader ahead: what was only fetched when all was killed is used later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.test_checkpoint import SHORT, await_whole, kill_all
from support.cluster import Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

pytest.importorskip("torch")
SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np, ps, torch

class Numbers(torch.utils.data.Dataset):
    def __len__(self): return 128
    def __getitem__(self, index): return index

if __name__ == "__main__":
    with ps.connect() as kv:
        kv.init({"w": np.zeros(8, np.float32)})
        loader = torch.utils.data.DataLoader(
            Numbers(), batch_size=8, shuffle=True, num_workers=2, prefetch_factor=4, persistent_workers=True
        )
        for numbers in kv.batches(loader, epochs=2):
            kv.step({"w": np.ones(8, np.float32)})
            with Path(f"{sys.argv[1]}.{kv.rank}").open("a") as file:
                file.write(f"{kv.clock} {' '.join(map(str, np.asarray(numbers).tolist()))}\\n")
            time.sleep(0.15)
"""


def test_every_example_of_a_loader_with_processes_counts_once_in_an_epoch_that_was_cut(
    forked: Callable[..., Process], tmp_path: Path
) -> None:
    script, used, folder = tmp_path / "loads.py", tmp_path / "used", tmp_path / "kept"
    script.write_text(SCRIPT)
    flags = ("run", "-w", 2, *SHORT, "--checkpoint-dir", folder, "--checkpoint-every", 1, script, used)
    first = forked(*flags, loaded=["torch"])
    await_whole(folder, 3, first)
    kill_all(first)
    assert forked(*flags, loaded=["torch"]).wait(60) == 0
    kept: dict[tuple[int, int], list[int]] = {}
    for rank in range(2):
        for line in Path(f"{used}.{rank}").read_text().splitlines():
            clock, *numbers = map(int, line.split())
            assert kept.setdefault((rank, clock), numbers) == numbers, "a clock that is done again has the same batch"
    for epoch in range(2):
        clocks = range(8 * epoch + 1, 8 * epoch + 9)
        assert sorted(n for rank in range(2) for clock in clocks for n in kept[rank, clock]) == list(range(128))
