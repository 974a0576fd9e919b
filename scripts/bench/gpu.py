"""Time what a worker does on a CUDA device, each beside its limit or a peer in the same run.

    python scripts/bench/gpu.py
    python scripts/bench/gpu.py --only copies,step --repeats 5 --json gpu.json

copies: 40 MB between device and host, through pageable, pinned, and shared memory that is registered with CUDA; the
best of them is the limit of a step. optimizers: the fused kernel beside CuPy's expression and w -= g. codecs: encoding
on the device beside the host. models: loss and gradients beside the host and, where torch sees the device, torch.
step: a whole push and pull of 40 MB with gradients on the device, one worker, beside the same with gradients on the
host. training: MNIST with two workers on one device and on the host, where --data has it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from limits import interleave, machine
from local_cluster import cluster, join
from outfile import outfile

from ps import xp
from ps.compress import CODECS, Key, Uplink
from ps.models import cnn, mlp
from ps.optim import OPTIMIZERS, apply
from ps.protocol.segment import Segment

ROOT = Path(__file__).resolve().parents[2]
ELEMENTS = 10_000_000
NBYTES = 4 * ELEMENTS
COMPRESSIONS = ("none", "fp16", "bf16", "int8", "onebit", "topk:0.01", "randomk:0.01", "powersgd:4")
STEPS = {"shm": (), "tcp": ("--transport", "tcp"), "tcp, int8": ("--compress", "int8")}
Figures = dict[str, Any]


class Bench:
    """One device, and how its work is timed: until the device is done, cases in turns."""

    def __init__(self, repeats: int, data: str | None) -> None:
        self.cp: Any = xp.cupy()
        self.device = xp.device("cuda:0")
        self.repeats = repeats
        self.data = data

    def times(self, cases: dict[str, Callable[[], object]], calls: int = 1) -> dict[str, float]:
        """Return each case's median in milliseconds; ``calls`` calls are timed as one where one is short."""

        def whole(case: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                for _ in range(calls):
                    case()
                self.cp.cuda.runtime.deviceSynchronize()

            return run

        found = interleave({name: whole(case) for name, case in cases.items()}, self.repeats)
        return {name: round(1e3 * seconds / calls, 4) for name, seconds in found.items()}

    def copies(self) -> Figures:
        """GB/s of one copy of 40 MB, by the kind of host memory and the direction."""
        there = xp.device_buffer(NBYTES, self.device)
        shared = Segment.create(NBYTES).array(0, NBYTES)
        places = {
            "pageable": np.empty(NBYTES, np.uint8),
            "pinned": xp.host_buffer(NBYTES, self.device),
            "shared, registered": xp.pinned(shared, self.device),
        }
        cases: dict[str, Callable[[], object]] = {}
        for kind, place in places.items():
            place[:] = 1
            cases[f"down, {kind}"] = lambda place=place: xp.copy(there, place)
            cases[f"up, {kind}"] = lambda place=place: xp.copy(place, there)
        second = xp.device_buffer(NBYTES, self.device)
        cases["on the device, read and written"] = lambda: xp.copy(there, second)
        moved = {name: 2 * NBYTES if name.startswith("on") else NBYTES for name in cases}
        return {name: round(moved[name] / ms / 1e6, 2) for name, ms in self.times(cases).items()}

    def optimizers(self) -> Figures:
        """Milliseconds of an update of 10 M float32, and over w -= g on the device."""
        cp = self.cp
        random = cp.random.default_rng(0)
        w, g = (random.standard_normal(ELEMENTS, cp.float32) for _ in range(2))
        cases: dict[str, Callable[[], object]] = {"w -= g": lambda: cp.subtract(w, g, out=w)}
        for name in OPTIMIZERS:
            optimizer = OPTIMIZERS.parse(name).build()
            state = optimizer.init(w)
            cases[name] = lambda o=optimizer, s=state: apply(o, w, g, s, lr=1e-3, t=10)
        m, v = cp.zeros_like(w), cp.zeros_like(w)

        def adam() -> None:
            nonlocal m, v
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g**2
            w[...] = w - 1e-3 * m / (cp.sqrt(v) + 1e-8)

        cases["adam as CuPy's expression"] = adam
        found = self.times(cases, calls=10)
        return {name: {"ms": ms, "over w -= g": round(ms / found["w -= g"], 2)} for name, ms in found.items()}

    def codecs(self) -> Figures:
        """Milliseconds to encode 40 MB in chunks of 2 MiB, error feedback included, on the device and on the host."""
        gradient = np.random.default_rng(0).standard_normal(ELEMENTS).astype(np.float32)
        chunk, there = (2 << 20) // 4, self.device.array(gradient)
        figures = {}
        for text in COMPRESSIONS:
            cases = {"device": self._encoding(text, there, chunk), "host": self._encoding(text, gradient, chunk)}
            figures[text] = self.times(cases)
        return figures

    @staticmethod
    def _encoding(text: str, gradient: Any, chunk: int) -> Callable[[], object]:
        uplink = Uplink(CODECS.parse(text))
        parts = [gradient[lo : lo + chunk] for lo in range(0, ELEMENTS, chunk)]
        states = [uplink.init(part) for part in parts]
        keys = [Key(0, 1 << 20, index, 0) for index in range(len(parts))]
        return lambda: [xp.to_host(uplink.encode(part, s, k)) for part, s, k in zip(parts, states, keys, strict=True)]

    def models(self) -> Figures:
        """Milliseconds of loss and gradients, on the device, on the host, and torch's on the device."""
        figures = {}
        for name, model, params in (
            ("cnn", cnn, cnn.init()),
            ("mlp 784-200-200-10", mlp, mlp.init([784, 200, 200, 10])),
        ):
            for batch in (64, 512):
                rng = np.random.default_rng(0)
                x, y = rng.random((batch, 784)).astype(np.float32), rng.integers(0, 10, batch)
                there = {key: self.device.array(value) for key, value in params.items()}
                dx, dy = self.device.array(x), self.device.array(y)
                cases: dict[str, Callable[[], object]] = {
                    "device": lambda m=model, p=there, x=dx, y=dy: m.loss_and_grad(p, x, y),
                    "host": lambda m=model, p=params, x=x, y=y: m.loss_and_grad(p, x, y),
                    **_torch_case(name, batch),
                }
                figures[f"{name}, batch of {batch}"] = self.times(cases)
        return figures

    def step(self) -> Figures:
        """Milliseconds of kv.step with 40 MB, and the parts it cannot be under."""
        copies = self.copies()
        down, up = (NBYTES / copies[f"{way}, shared, registered"] / 1e6 for way in ("down", "up"))
        figures: Figures = {"copies of 40 MB down and up": round(down + up, 3)}
        for name, flags in STEPS.items():
            for side in ("cpu", "cuda"):
                with cluster("--optimizer", "sgd:lr=0.001", *flags) as address:
                    figures[f"{name}, gradients on {side}"] = round(self._one_step(address, side), 3)
        return figures

    def _one_step(self, address: str, side: str) -> float:
        with _environment(PS_DEVICE=side), join(address) as kv:
            kv.init({"w": np.zeros(ELEMENTS, np.float32)})
            if not xp.is_host(kv.params["w"]):
                kv.device.use()
            grads = {"w": kv.device.array(np.full(ELEMENTS, 1e-6, np.float32))}
            if side == "cpu":
                grads = kv.grads
                grads["w"][:] = 1e-6
            took = []
            for _ in range(3 + 3 * self.repeats):
                begin = time.perf_counter()
                kv.step(grads)
                self.cp.cuda.runtime.deviceSynchronize()
                took.append(time.perf_counter() - begin)
            return 1e3 * statistics.median(took[3:])

    def training(self) -> Figures:
        """Seconds and accuracy of one epoch of MNIST's CNN: one server, two workers, on the device and on the host."""
        if not self.data:
            return {"skipped": "no --data with MNIST"}
        figures = {}
        for side in ("cuda", "cpu"):
            script = ["ps/examples/mnist.py", "--data", self.data, "--batch-size", "64"]
            argv = [sys.executable, "-m", "ps.cli", "run", "-s", "1", "-w", "2", "--device", side, *script]
            begin = time.perf_counter()
            done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
            seconds = time.perf_counter() - begin
            accuracy = re.search(r"test accuracy (\d\.\d+)", done.stdout + done.stderr)
            if done.returncode or accuracy is None:
                figures[side] = {"failed": (done.stdout + done.stderr)[-2000:]}
            else:
                figures[side] = {"seconds": round(seconds, 1), "accuracy": float(accuracy[1])}
        return figures


PARTS = ("copies", "optimizers", "codecs", "models", "step", "training")


def _torch_case(name: str, batch: int) -> dict[str, Callable[[], object]]:
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    from torch import nn

    if name == "cnn":
        layers = [nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        layers += [nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10)]
    else:
        layers = [nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)]
    net = nn.Sequential(*layers).cuda()
    x, y = torch.rand(batch, 784, device="cuda"), torch.randint(0, 10, (batch,), device="cuda")

    def step() -> None:
        for parameter in net.parameters():
            parameter.grad = None
        nn.functional.cross_entropy(net(x), y).backward()
        torch.cuda.synchronize()

    return {"torch on the device": step}


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def device_facts() -> Figures:
    """Return the device's name and the versions of what drives it."""
    cp: Any = xp.cupy()
    runtime = cp.cuda.runtime
    return {
        "device": runtime.getDeviceProperties(0)["name"].decode(),
        "devices": runtime.getDeviceCount(),
        "cupy": cp.__version__,
        "cuda runtime": runtime.runtimeGetVersion(),
        "driver": runtime.driverGetVersion(),
    }


def main() -> int:
    """Run the parts asked for and print them; the JSON file is rewritten after each, so that a time-out leaves some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--data", help="folder with MNIST's files")
    parser.add_argument("--json", type=outfile, metavar="FILE")
    args = parser.parse_args()
    if xp.cupy() is None:
        print("gpu: no CUDA device, or no cupy here (pip install paramserver[cuda12] or [cuda13])", file=sys.stderr)
        return 1
    bench = Bench(args.repeats, args.data)
    figures: Figures = {**device_facts(), "machine": machine()}
    print(json.dumps(figures))
    failed = 0
    for part in args.only.split(","):
        begin = time.perf_counter()
        try:
            figures[part] = getattr(bench, part)()
        except Exception as error:  # the other parts' figures are still worth having
            figures[part] = {"failed": f"{type(error).__name__}: {error}"}
            failed = 1
        print(f"{part} ({time.perf_counter() - begin:.1f} s)")
        for name, value in figures[part].items():
            print(f"  {name}: {value}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
