"""Compression of gradients that are on a device: they are encoded there, and only frames come down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import GradientError
from ps.testing import STRICT, LocalCluster, StrictArray

Start = Callable[..., LocalCluster]
SHAPES = {"w": (60, 50), "none": (0, 2), "b": (7,), "s": ()}
CODECS = ("fp16", "bf16", "int8", "onebit", "topk:0.05", "randomk:0.1", "powersgd:2", "topk:0.05,momentum=0.5")


class Namespace(type(STRICT.namespace)):  # type: ignore[misc]
    """The stand-in's, with the one reduction that a worker compiles: the sum of squares."""

    def ReductionKernel(self, *arguments: str, **options: str) -> Callable[[StrictArray], StrictArray]:
        assert "(double)x * (double)x" in arguments
        return lambda array: self.square(array.astype(np.float64)).sum()


class Bus:
    """The stand-in device, and what came down from it."""

    def __init__(self) -> None:
        self.down: list[tuple[str, int]] = []
        self.device = xp.Device(dataclasses.replace(STRICT, namespace=Namespace(), to_host=self._to_host))

    def _to_host(self, array: StrictArray, out: np.ndarray) -> None:
        self.down.append((str(array.dtype), array.nbytes))
        STRICT.to_host(array, out)


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    xp.register(made.device.backend)
    yield made
    xp.unregister(made.device.backend)


def gradients(kv: Any, step: int) -> dict[str, Any]:
    """Return gradients on the worker's device that depend on its rank and the step only."""
    random = np.random.default_rng([kv.rank, step])
    made = {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {name: kv.device.array(np.asarray(array)) for name, array in made.items()}


def weights(params: Any) -> dict[str, np.ndarray]:
    """Read the weights without the bus noticing."""
    found = {name: np.empty(shape, np.float32) for name, shape in SHAPES.items()}
    for name, out in found.items():
        np.copyto(out, params[name]) if xp.is_host(params[name]) else STRICT.to_host(params[name], out)
    return found


def first() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


def steps(kv: Any, step: int) -> None:
    kv.step(gradients(kv, step))


def in_place(kv: Any, step: int) -> None:
    for name, array in gradients(kv, step).items():
        kv.grads[name][...] = array
    kv.step(kv.grads)


def from_the_host(kv: Any, step: int) -> None:
    """Some gradients are where the device is not."""
    made = gradients(kv, step)
    for name in ("w", "s"):
        host = np.empty(SHAPES[name], np.float32)
        np.copyto(host, made[name]) if xp.is_host(made[name]) else STRICT.to_host(made[name], host)
        made[name] = host
    kv.step(made)


def announced(kv: Any, step: int) -> None:
    made = gradients(kv, step)
    for name in ("s", "b", "none"):
        kv.ready(name, made[name])
    kv.step({"w": made["w"]})


def apart(kv: Any, step: int) -> None:
    made = gradients(kv, step)
    kv.push(made)
    for array in made.values():
        array.fill(np.float32(99))  # what was pushed may be used again
    kv.wait(kv.pull())


def run(loopback: Start, device: xp.Device, do: Callable[[Any, int], None], **job: Any) -> list[dict[str, np.ndarray]]:
    """Do some steps with two workers on a device; return the weights of each."""

    def script(kv: Any) -> dict[str, np.ndarray]:
        params = kv.init(first())
        for step in range(4):
            do(kv, step)
        kv.barrier()
        return weights(params)

    job = {"servers": 2, "workers": 2, "chunk_size": 1024, "optimizer": "sgd:lr=0.1", **job}
    return loopback(**job).run(*[script] * job["workers"], device=device)


def same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> bool:
    return all(a[name].tobytes() == b[name].tobytes() for a, b in zip(one, other, strict=True) for name in SHAPES)


@pytest.mark.parametrize("codec", CODECS)
def test_a_device_trains_to_the_hosts_weights_and_only_frames_come_down(loopback: Start, bus: Bus, codec: str) -> None:
    there, here = run(loopback, bus.device, steps, compress=codec), run(loopback, xp.CPU, steps, compress=codec)
    assert same(there, here)
    assert there[0]["w"].any()
    assert {kind for kind, _ in bus.down} == {"uint8"}
    assert len(bus.down) == 2 * 4 * 12, "not one frame for each worker, step and chunk"
    assert sum(size for _, size in bus.down) < 2 * 4 * 4 * 3008 / 1.9


@pytest.mark.parametrize("do", [in_place, from_the_host, announced, apart])
@pytest.mark.parametrize("codec", ["int8", "topk:0.05"])
def test_however_gradients_are_given_only_frames_come_down(
    loopback: Start, bus: Bus, codec: str, do: Callable[[Any, int], None]
) -> None:
    there, here = run(loopback, bus.device, do, compress=codec), run(loopback, xp.CPU, do, compress=codec)
    assert same(there, here)
    assert {kind for kind, _ in bus.down} == {"uint8"}


@pytest.mark.parametrize(
    "job", [{"overlap": True}, {"clip_norm": 2.0}, {"mode": "async", "workers": 1, "clip_norm": 2.0}, {"mode": "ssp"}]
)
def test_it_goes_in_every_mode_and_with_clipping(loopback: Start, bus: Bus, job: dict[str, Any]) -> None:
    there, here = (run(loopback, d, steps, compress="topk:0.05", **job) for d in (bus.device, xp.CPU))
    if job.get("mode") != "ssp":  # whose order is anybody's guess
        assert all(np.allclose(a[n], b[n], rtol=1e-6) for a, b in zip(there, here, strict=True) for n in SHAPES)
    assert {kind for kind, _ in bus.down} == {"uint8"}


@pytest.mark.parametrize("announce", [False, True])
def test_what_is_not_finite_is_named_as_on_the_host(loopback: Start, bus: Bus, announce: bool) -> None:
    def script(kv: Any) -> str:
        kv.init(first())
        made = gradients(kv, 0)
        made["w"][31, 7] = np.inf
        with pytest.raises(GradientError) as caught:
            kv.ready("w", made["w"]) if announce else kv.step(made)
        assert kv.clock == 0
        return str(caught.value)

    texts = [loopback(compress="int8", chunk_size=1024).run(script, device=d)[0] for d in (bus.device, xp.CPU)]
    assert texts[0] == texts[1]
    assert "'w' is inf at (31, 7)" in texts[0]
    assert not bus.down


def test_a_step_is_skipped_that_is_not_finite(loopback: Start, bus: Bus) -> None:
    def bad(kv: Any, step: int) -> None:
        made = gradients(kv, step)
        made["b"][3] = np.nan if step == 1 + kv.rank else 0.5
        kv.step(made)

    there, here = (run(loopback, d, bad, compress="topk:0.05", on_nan="skip") for d in (bus.device, xp.CPU))
    assert same(there, here)
    assert len(bus.down) == 2 * 3 * 12


def test_what_a_codec_remembers_is_on_the_device_and_so_is_what_is_given_back(loopback: Start, bus: Bus) -> None:
    with loopback(compress="topk:0.05", chunk_size=1024).connect(device=bus.device) as kv:
        kv.init(first())
        kv.step(gradients(kv, 0))
        compression = kv._store._part.compression
        assert compression is not None
        compression.give_back({0})
        assert all(isinstance(array, StrictArray) for state in compression.state.values() for array in state.values())
        kept = np.empty(compression.state[0]["residual"].shape, np.float32)
        STRICT.to_host(compression.state[0]["residual"], kept)
        assert kept.all(), "what was sent is missing"


def test_without_compression_gradients_come_down_whole(loopback: Start, bus: Bus) -> None:
    assert same(run(loopback, bus.device, steps), run(loopback, xp.CPU, steps))
    assert {kind for kind, _ in bus.down} == {"float32"}
    assert sum(size for _, size in bus.down) == 2 * 4 * 4 * 3008
