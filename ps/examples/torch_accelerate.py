"""Train a small transformer with Accelerate to sort numbers, on a stream of examples that differ in length.

python ps/examples/torch_accelerate.py                         one process, no cluster
psctl run -s 2 -w 2 ps/examples/torch_accelerate.py            two servers, two workers
psctl run -w 2 --mode async ps/examples/torch_accelerate.py

pip install "paramserver[torch]" accelerate; nothing to download.
"""

import argparse
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

import ps
import ps.torch

NUMBERS, LONGEST, NONE = 32, 12, -100


def lists(count: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield lists of numbers, of 3 to LONGEST each: the same on all workers, of which each keeps its share."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.randint(NUMBERS, (int(torch.randint(3, LONGEST + 1, (), generator=random)),), generator=random)


def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (rows, longest) int64: the numbers, and NUMBERS where there are none; the same sorted, and NONE there."""
    x = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NUMBERS)
    return x, x.sort().values.masked_fill(x.sort().values == NUMBERS, NONE)


class Sorter(nn.Module):
    """(rows, longest) int64 to (rows, longest, NUMBERS) float32."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(NUMBERS + 1, width), nn.Parameter(torch.zeros(LONGEST, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True)
        self.layers, self.out = nn.TransformerEncoder(layer, 2), nn.Linear(width, NUMBERS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layers(self.embedding(x) + self.position[: x.shape[1]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20_000, help="lists of all workers (default 20000)")
    count = parser.parse_args().examples
    torch.manual_seed(0)
    accelerator, model = Accelerator(), Sorter()
    with ps.connect(optimizer="adam:lr=3e-3", aggregator="weighted", clip_norm=1.0) as kv:
        ps.torch.prepare(accelerator, kv)
        distributed = ps.torch.DistributedOptimizer(model, kv)
        loader = DataLoader(ps.torch.stream(kv, lists(count, seed=0)), 32, collate_fn=padded)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(distributed, -(-(count // kv.job.workers) // 32))
        model, optimizer, loader, rate = accelerator.prepare(model, distributed, loader, rate)
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=NONE)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)  # the servers do
            distributed.weight = int((y != NONE).sum())  # the loss is the mean of so many
            optimizer.step()
            rate.step()
        kv.barrier()  # the others may still be training
        x, y = (each.to(accelerator.device) for each in padded(list(lists(500, seed=1))))
        right = (model(x).argmax(-1) == y)[y != NONE].float().mean()
        accelerator.print(f"{right:.4f} of the numbers are at their place, rate {rate.get_last_lr()[0]:.1g}")


if __name__ == "__main__":
    main()
