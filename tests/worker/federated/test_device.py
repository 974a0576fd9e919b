"""Federated training on a device: weights, gradients, deltas and error feedback stay there, only frames come down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.testing import STRICT, LocalCluster, StrictArray
from ps.worker import KV
from ps.worker.step_log import StepLog

Start = Callable[..., LocalCluster]
SHAPES = {"w": (30, 50), "none": (0, 2), "b": (7,), "s": ()}
SIZE = 30 * 50 + 7 + 1
ROUNDS, STEPS = 3, 2


class Namespace(type(STRICT.namespace)):  # type: ignore[misc]
    """The stand-in's, with the two kernels that a client compiles here: SGD with momentum, and the sum of squares."""

    def ReductionKernel(self, *arguments: str, **options: str) -> Callable[[StrictArray], StrictArray]:
        return lambda array: self.square(array.astype(np.float64)).sum()

    def ElementwiseKernel(self, inputs: str, outputs: str, operation: str, name: str, *, no_return: bool) -> Any:
        def sgd(grad: Any, scale: float, bound: float, l2: float, lr: float, w: Any) -> None:
            w -= self.clip(grad * scale, -bound, bound) * lr

        def momentum(grad: Any, scale: float, bound: float, l2: float, *rest: Any) -> None:
            lr, factor, w, velocity = rest
            velocity *= factor
            velocity += self.clip(grad * scale, -bound, bound)
            w -= velocity * lr

        return {"ps_sgd": sgd, "ps_momentum": momentum}[name]


class Bus:
    """The stand-in device, and what came down from it."""

    def __init__(self) -> None:
        self.down: list[tuple[str, int]] = []
        self.device = xp.Device(dataclasses.replace(STRICT, namespace=Namespace(), to_host=self._to_host))

    def _to_host(self, array: StrictArray, out: np.ndarray) -> None:
        if array.size:
            self.down.append((str(array.dtype), array.nbytes))
        STRICT.to_host(array, out)


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    xp.register(made.device.backend)
    yield made
    xp.unregister(made.device.backend)


def seen(array: Any) -> np.ndarray:
    """Read an array without the bus noticing."""
    if xp.is_host(array):
        return np.array(array)
    out = np.empty(array.shape, array.dtype)
    STRICT.to_host(array, out)
    return out


def first() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


def gradients(kv: KV, step: int) -> dict[str, Any]:
    random = np.random.default_rng([kv.rank, step])
    made = {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {name: kv.device.array(np.asarray(array)) for name, array in made.items()}


def script(kv: KV, do: Callable[[KV, int], None] = lambda kv, step: kv.step(gradients(kv, step))) -> dict[str, Any]:
    params = kv.init(first())
    for step, (x,) in enumerate(kv.batches((np.arange(float(4 * STEPS)),), 4)):
        assert xp.backend_of(x).name == kv.device.backend.name
        do(kv, step)
    store: Any = kv._store
    sides = {type(array) for array in (*params.values(), *store.training.own.values())}
    sides |= {type(array) for state in store._encoder.state.values() for array in state.values()}
    sides |= {type(array) for slots in store.training.slots.values() for array in slots.values()}
    return {"sides": sides, **{name: seen(array) for name, array in params.items()}}


def run(loopback: Start, device: xp.Device, work: Callable[[KV], Any] = script, **job: Any) -> dict[str, Any]:
    settings = {"mode": "federated", "servers": 2, "chunk_size": 1024, "optimizer": "sgd:lr=0.1", "rounds": ROUNDS}
    settings |= {"partition": "own", "start_timeout": 5.0}
    (found,) = loopback(**{**settings, **job}).run(work, device=device)
    return found


def check(there: dict[str, Any], here: dict[str, Any]) -> None:
    assert there["sides"] == {StrictArray}
    assert here["sides"] == {np.ndarray}
    assert there["w"].any()
    for name in SHAPES:
        np.testing.assert_allclose(there[name], here[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox:0.1", "scaffold"])
def test_a_device_trains_to_the_hosts_weights_and_only_deltas_come_down(
    loopback: Start, bus: Bus, algorithm: str
) -> None:
    there, here = (run(loopback, device, algorithm=algorithm) for device in (bus.device, xp.CPU))
    check(there, here)
    sections = 2 if algorithm == "scaffold" else 1
    assert {kind for kind, _ in bus.down} == {"float32"}
    assert sum(size for _, size in bus.down) == ROUNDS * sections * 4 * SIZE


@pytest.mark.parametrize("compress", ["int8", "onebit", "topk:0.05", "powersgd:2"])
@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_with_compression_only_frames_come_down(loopback: Start, bus: Bus, compress: str, algorithm: str) -> None:
    there, here = (run(loopback, d, compress=compress, algorithm=algorithm) for d in (bus.device, xp.CPU))
    check(there, here)
    plain = ROUNDS * 4 * SIZE
    assert {kind for kind, _ in bus.down} <= {"uint8", "float32"}
    exact = plain if algorithm == "scaffold" else 0  # control variates, as they are
    assert sum(size for kind, size in bus.down if kind == "float32") == exact
    assert sum(size for kind, size in bus.down if kind == "uint8") < plain / 1.9


@pytest.mark.parametrize("job", [{"clip_norm": 0.5}, {"clip_value": 0.1}, {"on_nan": "ignore"}])
def test_clipping_needs_nothing_but_a_number_from_the_device(loopback: Start, bus: Bus, job: dict[str, Any]) -> None:
    check(*(run(loopback, device, **job) for device in (bus.device, xp.CPU)))
    assert len(bus.down) == ROUNDS * 6, "not one frame for each chunk and round"


def test_a_local_optimizer_that_is_kept_stays_on_the_device(loopback: Start, bus: Bus) -> None:
    job = {"algorithm": "diloco", "local_optimizer": "momentum:lr=0.1"}
    check(*(run(loopback, device, **job) for device in (bus.device, xp.CPU)))


def test_gradients_that_are_computed_in_place_stay_too(loopback: Start, bus: Bus) -> None:
    def in_place(kv: KV, step: int) -> None:
        for name, array in gradients(kv, step).items():
            kv.grads[name][...] = array
        kv.step(kv.grads)

    check(*(run(loopback, device, lambda kv: script(kv, in_place)) for device in (bus.device, xp.CPU)))


def test_neither_a_barrier_nor_a_pull_undoes_what_a_round_has_trained(loopback: Start, bus: Bus) -> None:
    def busy(kv: KV, step: int) -> None:
        kv.step(gradients(kv, step))
        mine = seen(kv.params["w"])
        kv.barrier()
        kv.wait(kv.pull())
        np.testing.assert_array_equal(seen(kv.params["w"]), mine)

    check(*(run(loopback, device, lambda kv: script(kv, busy)) for device in (bus.device, xp.CPU)))


def test_what_push_pull_fills_is_what_the_client_has_trained(loopback: Start, bus: Bus) -> None:
    def apart(kv: KV, step: int) -> None:
        out = first()
        kv.push_pull(gradients(kv, step), out)
        np.testing.assert_array_equal(out["w"], seen(kv.params["w"]))

    check(*(run(loopback, device, lambda kv: script(kv, apart)) for device in (bus.device, xp.CPU)))


def test_what_is_not_trained_is_averaged_and_added_up_from_the_device(loopback: Start, bus: Bus) -> None:
    def count(kv: KV) -> tuple[list[int], list[float]]:
        model = {"w": np.zeros(3), "seen": np.array([2**60 + 1, 0]), "mean": np.zeros(2, np.float32)}
        params = kv.init(model, {"seen": "counter", "mean": "buffer"})
        for _ in kv.batches(np.zeros(4), 4):
            params["seen"] += 1
            params["mean"] += np.float32(2)
            kv.step({"w": kv.device.array(np.zeros(3))})
        return seen(params["seen"]).tolist(), seen(params["mean"]).tolist()

    assert run(loopback, bus.device, count) == ([2**60 + 1 + ROUNDS, ROUNDS], [2.0 * ROUNDS] * 2)


def test_a_script_that_breaks_off_has_the_rounds_weights_on_its_device_again(loopback: Start, bus: Bus) -> None:
    def breaks(kv: KV) -> bool:
        params = kv.init({**first(), "b": np.ones(7, np.float32)})
        for step, _ in enumerate(kv.batches(np.zeros(8), 4)):
            kv.step(gradients(kv, step))
            break
        return not seen(params["w"]).any() and bool((seen(params["b"]) == 1).all())

    assert run(loopback, bus.device, breaks, start_timeout=3.0)


@pytest.mark.parametrize("algorithm", ["scaffold", "diloco"])
def test_a_restarted_client_goes_on_on_its_device(loopback: Start, bus: Bus, tmp_path: Path, algorithm: str) -> None:
    def two_lives(device: xp.Device, name: str) -> dict[str, Any]:
        job = loopback(
            mode="federated", rounds=4, partition="own", servers=2, chunk_size=1024, compress="topk:0.05",
            optimizer="sgd:lr=0.1", algorithm=algorithm,
            **({"local_optimizer": "momentum:lr=0.1"} if algorithm == "diloco" else {}),
        )  # fmt: skip
        for life in range(2):
            store = job.store(0, state=str(tmp_path / name))
            with KV(store, device, StepLog(None)) as kv:
                params = kv.init(first())
                for step, _ in enumerate(kv.batches(np.zeros(4), 4)):
                    if life == 0 and step == 2:
                        break
                    kv.step(gradients(kv, 10 * life + step))
        return {name: seen(array) for name, array in params.items()}

    there, here = two_lives(bus.device, "there"), two_lives(xp.CPU, "here")
    for name in SHAPES:
        np.testing.assert_allclose(there[name], here[name], rtol=1e-5, atol=1e-6)
    assert there["w"].any()
