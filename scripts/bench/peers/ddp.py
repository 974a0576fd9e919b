"""torch DistributedDataParallel over Gloo: backward yields the gradients at once, DDP averages them, SGD updates."""

from __future__ import annotations

from typing import Any

import numpy as np
from race.case import LR, Case, Launch, Options, Setup

from peers import needs
from peers.gloo import join_group

MODULE = __name__
LACKS = "no server: every worker keeps and updates a replica"
TENSOR = 4_000_000
"""Bytes of each parameter: as fine as a model of several layers, so that DDP can fill its buckets. Measured with 2
ranks and 40 MB: buckets of 8 to 25 MB are alike, and gradients kept or made anew."""


def absent(options: Options) -> str:
    return needs("torch")


def cases(setup: Setup) -> list[Case]:
    if setup.workers == 1:
        return []
    words = f"parameters of {TENSOR / 1e6:g} MB, bucket_cap_mb=13, gradient_as_bucket_view=True, static_graph=True"
    optimizer = "SGD(fused=True), zero_grad(set_to_none=False); torch.set_num_threads(1)"
    return [Case("DDP", MODULE, "peer", f"{words}, {optimizer}", LACKS, {"bucket": 13, "keep": True})]


def start(setup: Setup, options: Options, launch: Launch) -> str:
    return str(launch.directory / "rendezvous")


class Worker:
    """One rank: forward, backward and the optimizer's step, as a training loop has them."""

    def __init__(self, setup: Setup, options: Options, rank: int, meeting: str) -> None:
        torch = join_group(setup, rank, meeting)
        torch.set_num_threads(1)
        self._torch = torch
        self._model = _model(torch, setup, rank)
        self._ddp = torch.nn.parallel.DistributedDataParallel(
            self._model, bucket_cap_mb=options["bucket"], gradient_as_bucket_view=True, static_graph=True
        )
        self._optimizer = torch.optim.SGD(self._ddp.parameters(), lr=LR, fused=True)
        self._keep = bool(options["keep"])

    def steps(self, count: int) -> None:
        for _ in range(count):
            self._optimizer.zero_grad(set_to_none=not self._keep)
            self._ddp().backward()
            self._optimizer.step()

    def weights(self) -> np.ndarray:
        return np.concatenate([tensor.detach().numpy() for tensor in self._model.parameters()])

    def close(self) -> None:
        self._torch.distributed.destroy_process_group()


def _model(torch: Any, setup: Setup, rank: int) -> Any:
    """Return a module whose backward costs nothing but handing over gradients that are there already."""

    class Hand(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, gradients: Any, *parameters: Any) -> Any:
            ctx.gradients = gradients
            return parameters[0].new_zeros(())

        @staticmethod
        def backward(ctx: Any, _: Any) -> Any:
            return None, *ctx.gradients

    class Model(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            weights = torch.from_numpy(setup.weights()).split(TENSOR // 4)
            self.tensors = torch.nn.ParameterList([torch.nn.Parameter(part.clone()) for part in weights])
            self.gradients = torch.from_numpy(setup.gradient(rank)).split(TENSOR // 4)

        def forward(self) -> Any:
            return Hand.apply(self.gradients, *self.tensors)

    return Model()


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Worker:
    return Worker(setup, options, rank, meeting)
