"""Train a small transformer in PyTorch, character by character, on the text of Python's own help.

python ps/examples/torch_text.py                         one process, no cluster
psctl run -s 2 -w 2 ps/examples/torch_text.py            two servers, two workers
psctl run -w 2 --mode async ps/examples/torch_text.py
psctl run -w 2 --mode ssp ps/examples/torch_text.py

pip install "paramserver[torch]"; nothing to download.
"""

import argparse
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ps
import ps.torch

LENGTH = 64


class Transformer(nn.Module):
    """Tells the next character of each, (batch, LENGTH) int64 to (batch, LENGTH, characters) float32."""

    def __init__(self, characters: int, width: int = 48) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.position = nn.Parameter(torch.zeros(LENGTH, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.out = nn.Linear(width, characters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layers(self.embedding(x) + self.position, self.mask, is_causal=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=3, help="passes over the text (default 3)")
    parser.add_argument("--batch-size", type=int, default=32, help="examples per step and worker (default 32)")
    parser.add_argument("--limit", type=int, default=400_000, metavar="N", help="characters (default 400000)")
    args = parser.parse_args()

    text = "\n".join(topics[name] for name in sorted(topics))[: args.limit]
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    whole = torch.tensor([numbers[character] for character in text])
    rows = whole[: len(whole) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    train, test = TensorDataset(rows[:-200]), rows[-200:]

    torch.manual_seed(0)
    model = Transformer(len(numbers))
    matrices = {"params": [p for p in model.parameters() if p.ndim > 1]}
    others = {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}
    with ps.connect(optimizer="adamw:lr=3e-3,weight_decay=0.1") as kv:
        device = ps.torch.device(kv)
        optimizer = ps.torch.DistributedOptimizer([matrices, others], kv, model=model.to(device))
        share = ps.torch.sampler(kv, train)
        loader = DataLoader(train, args.batch_size, sampler=share, drop_last=True)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, args.epochs * len(loader), cycle_momentum=False)
        for _ in range(args.epochs):
            for (rows,) in loader:
                row = rows.to(device)
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(row[:, :-1]).flatten(0, 1), row[:, 1:].flatten())
                loss.backward()
                optimizer.step(loss=loss.item())
                rate.step()
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            with torch.no_grad():
                test = test.to(device)
                right = (model(test[:, :-1]).argmax(-1) == test[:, 1:]).float().mean()
            print(f"test accuracy {right:.4f} of the next character")


if __name__ == "__main__":
    main()
