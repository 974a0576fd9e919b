"""Train a torch network on scikit-learn's digits so that no single example can be told from its weights, with Opacus.

psctl run -s 2 -w 4 --mode federated --rounds 10 ps/examples/torch_opacus.py --noise 1
psctl run -s 2 -w 4 ps/examples/torch_opacus.py --noise 1         the same in synchronous training

What a client protects so are its examples, each for itself, in its own training, whatever others do; --dp protects a
client as a whole, by noise of the servers. Both can be had together.

pip install "paramserver[torch,opacus,examples]"; nothing to download.
"""

import argparse
import os

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

import ps
import ps.torch
from ps.data import digits
from ps.privacy import epsilon_of

DELTA = 1e-4


def secret_generator() -> torch.Generator:
    """Return a generator of noise that nobody can repeat: a seed of the job's would be known to all."""
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(8), "little"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviations of the noise over the clip")
    parser.add_argument("--clip", type=float, default=1.0, help="the norm of an example's gradient, at most")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data, unless the job has rounds")
    parser.add_argument("--batch-size", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    train, test = digits()
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with ps.connect(optimizer="sgd:lr=0.5") as kv:
        distributed = ps.torch.DistributedOptimizer(net, kv)  # of the bare net: names are those of its parameters
        model = GradSampleModule(net)
        optimizer = DPOptimizer(
            distributed,
            noise_multiplier=args.noise,
            max_grad_norm=args.clip,
            expected_batch_size=args.batch_size,
            generator=secret_generator(),
            secure_mode=True,  # several draws for each number, so that its low bits tell nothing
        )
        passes = kv.job.rounds * kv.job.local_epochs if kv.job.federated else args.epochs
        for x, y in kv.batches(train, args.batch_size, epochs=args.epochs):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.as_tensor(x)), torch.as_tensor(y).long()).backward()
            optimizer.step()
        kv.barrier()
        right = (net(torch.as_tensor(test.x)).argmax(1) == torch.as_tensor(test.y)).float().mean()
        if kv.rank == 0:
            spent = epsilon_of(args.noise, passes, DELTA)  # each example is in one batch of each pass
            print(f"test accuracy {right:.4f}, eps = {spent:.3g} for an example at delta = {DELTA:g}")


if __name__ == "__main__":
    main()
