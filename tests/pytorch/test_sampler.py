"""Promises of the sampler: each example at most once in an epoch, as many for each worker, in new orders."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import ps.torch
from ps.errors import DataError, UsageError
from ps.testing import LocalCluster
from ps.worker import KV

Start = Callable[..., LocalCluster]
Local = Callable[..., KV]


def epochs(kv: KV, n: int, count: int = 2, **options: bool | int) -> list[list[list[int]]]:
    share = ps.torch.sampler(kv, range(n), **options)
    loader = torch.utils.data.DataLoader(torch.arange(n), batch_size=4, sampler=share)
    return [[batch.tolist() for batch in loader] for _ in range(count)]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


@pytest.mark.parametrize("n", [3, 30, 31, 32])
def test_workers_together_see_every_example_at_most_once_in_as_many_batches(loopback: Start, n: int) -> None:
    found = loopback(workers=3).run(*[lambda kv: epochs(kv, n)] * 3)
    for epoch in range(2):
        batches = [worker[epoch] for worker in found]
        assert len({tuple(map(len, each)) for each in batches}) == 1
        seen = [index for each in batches for batch in each for index in batch]
        assert len(set(seen)) == len(seen) == n // 3 * 3


def test_each_epoch_has_an_order_of_its_own_which_its_number_and_the_seed_say(local: Local) -> None:
    kv = local(seed=1)
    first, second = epochs(kv, 100)
    assert first != second and sorted(flat(first)) == sorted(flat(second)) == list(range(100))
    assert epochs(kv, 100) == [first, second] == epochs(local(), 100, seed=1)
    assert epochs(kv, 100, seed=2)[0] != first
    share = ps.torch.sampler(kv, range(100))
    share.set_epoch(1)
    assert list(share) == flat(second)
    assert flat(epochs(kv, 8, shuffle=False, count=1)[0]) == list(range(8))


def test_what_cannot_be_shared_out_is_refused(loopback: Start, local: Local) -> None:
    with pytest.raises(UsageError, match=r"generator has no length.*kv\.rank"):
        ps.torch.sampler(local(), (i for i in range(3)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"take the batches from kv\.batches"):
        ps.torch.sampler(local(mode="federated"), range(3))

    def script(kv: KV) -> None:
        with pytest.raises(DataError, match="2 workers are more than the 1 examples"):
            ps.torch.sampler(kv, range(1))

    loopback(workers=2).run(script, script)


def test_generators_differ_between_workers_and_are_the_same_in_another_run(loopback: Start, local: Local) -> None:
    first, second = loopback(workers=2, seed=3).run(*[lambda kv: ps.torch.generator(kv).initial_seed()] * 2)
    assert first != second
    assert ps.torch.generator(local(seed=3)).initial_seed() == first
