"""Train a CNN in PyTorch on MNIST, or, where there is none, on scikit-learn's digits.

python ps/examples/torch_mnist.py --data DIR                  one process, no cluster
psctl run -s 2 -w 2 ps/examples/torch_mnist.py --data DIR     two servers, two workers
psctl run -w 2 --mode async ps/examples/torch_mnist.py --limit 6000
psctl run -w 2 --mode ssp ps/examples/torch_mnist.py --limit 6000
psctl run -w 2 --mode federated --rounds 5 ps/examples/torch_mnist.py --limit 6000

DIR (or PS_DATA) holds mnist.npz or the four IDX files. pip install "paramserver[torch]"
"""

import argparse
import math

import torch
from torch import nn

import ps
import ps.torch
from ps.data import Dataset, digits, mnist
from ps.errors import DataError


def network(pixels: int) -> nn.Module:
    """Return a CNN for square pictures of so many pixels, float32 (n, pixels)."""
    side = math.isqrt(pixels)
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * (side // 4) ** 2, 10)),
    )


def accuracy(model: nn.Module, test: Dataset, device: torch.device) -> float:
    x, y = torch.as_tensor(test.x, device=device), torch.as_tensor(test.y, device=device)
    with torch.no_grad():
        guessed = [model(part).argmax(1) for part in x.split(500)]
    return float((torch.cat(guessed) == y).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=5, help="passes over the data (default 5)")
    parser.add_argument("--batch-size", type=int, default=32, help="examples per step and worker (default 32)")
    parser.add_argument("--data", metavar="DIR", help="folder with MNIST's files (default: PS_DATA)")
    parser.add_argument("--limit", type=int, metavar="N", help="train on the first N examples only")
    args = parser.parse_args()
    try:
        train, test = mnist(args.data)
    except DataError as error:
        if args.data is not None:
            parser.error(str(error))
        train, test = digits()
    if args.limit is not None:
        train = train.take(min(args.limit, len(train)))

    torch.manual_seed(0)
    model = network(train.x.shape[1])
    with ps.connect(optimizer="adam:lr=2e-3", local_optimizer="adam:lr=2e-3") as kv:
        device = ps.torch.device(kv)
        optimizer = ps.torch.DistributedOptimizer(model.to(device), kv)
        kv.evaluate(lambda params, data: {"accuracy": accuracy(model, data, device)}, test)
        for x, y in kv.batches(train, batch_size=args.batch_size, epochs=args.epochs):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(torch.as_tensor(x)), torch.as_tensor(y))
            loss.backward()
            optimizer.step(loss=loss.item())
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            print(f"test accuracy {accuracy(model, test, device):.4f}")


if __name__ == "__main__":
    main()
