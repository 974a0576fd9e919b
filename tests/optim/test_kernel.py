"""The CUDA kernels, checked without a GPU: compiled for the host, run as the driver calls them."""

from __future__ import annotations

import ctypes
import dataclasses
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.optim import OPTIMIZERS, apply, driver, square_sum
from ps.testing import STRICT, StrictArray

CTYPES = {"float": ctypes.c_float, "double": ctypes.c_double}


class HostKernels:
    """The part of CuPy's namespace that ps.optim uses, over StrictArray, with kernels compiled by g++."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launches: list[str] = []

    empty = staticmethod(STRICT.namespace.empty)
    sign = staticmethod(STRICT.namespace.sign)
    zeros_like = staticmethod(STRICT.namespace.zeros_like)

    def full_like(self, array: StrictArray, value: float) -> StrictArray:
        return StrictArray(np.full_like(array._host, value))

    def ElementwiseKernel(self, inputs: str, outputs: str, operation: str, name: str, *, no_return: bool) -> Any:
        assert no_return
        names = [[word.split()[1] for word in words.split(", ")] for words in (inputs, outputs)]
        arrays = {"grad", *names[1]}
        source = "namespace { inline float sqrt(float x) { return __builtin_sqrtf(x); }\n"
        source += "inline double sqrt(double x) { return __builtin_sqrt(x); } }\n"
        for type_ in CTYPES:
            parameters = ", ".join(f"{type_} {'*_raw_' * (p in arrays)}{p}" for p in names[0] + names[1])
            references = " ".join(f"{'const ' * (p == 'grad')}T &{p} = _raw_{p}[i];" for p in ["grad", *names[1]])
            source += f'extern "C" void run_{type_}(long n, {parameters}) {{ typedef {type_} T;\n'
            source += f"for (long i = 0; i < n; ++i) {{ {references}\n{operation};\n}} }}\n"
        library = self.folder / f"{name}.so"
        if not library.exists():
            compiler = ["g++", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-x", "c++", "-", "-o", str(library)]
            subprocess.run(compiler, input=source, text=True, check=True, timeout=60)
        functions = ctypes.CDLL(str(library))

        def launch(*arguments: StrictArray | float) -> None:
            assert len(arguments) == len(names[0]) + len(names[1])
            self.launches.append(name)
            type_ = "float" if arguments[0].dtype == np.float32 else "double"  # type: ignore[union-attr]
            getattr(functions, f"run_{type_}")(
                ctypes.c_long(arguments[0].size),  # type: ignore[union-attr]
                *(
                    ctypes.c_void_p(a._host.ctypes.data) if isinstance(a, StrictArray) else CTYPES[type_](a)
                    for a in arguments
                ),
            )

        return launch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def kernels(folder: Path) -> Iterator[HostKernels]:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    found = HostKernels(folder)
    backend = dataclasses.replace(STRICT, namespace=found)
    xp.register(backend)
    yield found
    xp.unregister(backend)


def host(array: StrictArray) -> np.ndarray:
    return array._host


DECAYING = [name if name == "ftrl" else f"{name}:weight_decay=0.1" for name in OPTIMIZERS]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", [*DECAYING, "ftrl:l1=0.3,l2=0.1"])
def test_a_kernel_does_what_the_numpy_lines_do(text: str, dtype: str, kernels: HostKernels) -> None:
    optimizer = OPTIMIZERS.parse(text).build()
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(501).astype(dtype)
    on_device = StrictArray(weights.copy())
    state, device_state = optimizer.init(weights), optimizer.init(on_device)
    for t, options in enumerate(({}, {"scale": 0.5}, {"clip_value": 0.3, "scale": 2.0}, {}), 1):
        gradient = rng.standard_normal(501).astype(dtype)
        apply(optimizer, weights, gradient, state, lr=0.1, t=t, **options)
        apply(optimizer, on_device, StrictArray(gradient), device_state, lr=0.1, t=t, **options)
    assert len(kernels.launches) == 4
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(host(on_device), weights, rtol=tolerance, atol=tolerance)
    for slot in optimizer.slots:
        np.testing.assert_allclose(host(device_state[slot]), state[slot], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("text", ["sgd", "adam"])
def test_a_reader_is_walked_in_blocks_on_a_device_too(
    text: str, kernels: HostKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "DEVICE_BLOCK_BYTES", 4 * 100)
    optimizer = OPTIMIZERS.parse(text).build()
    gradient = np.random.default_rng(0).standard_normal(250).astype(np.float32)
    results = []

    def read(lo: int, hi: int, out: StrictArray) -> StrictArray:
        out[:] = StrictArray(gradient[lo:hi])
        return out

    for source in (StrictArray(gradient), read):
        weights = StrictArray(np.zeros(250, np.float32))
        apply(optimizer, weights, source, optimizer.init(weights), lr=0.1, t=1)
        results.append(host(weights).tobytes())
    assert results[0] == results[1]
    assert len(kernels.launches) == 1 + 3


def test_an_empty_vector_launches_nothing(kernels: HostKernels) -> None:
    optimizer = OPTIMIZERS.parse("adam").build()
    weights = StrictArray(np.empty(0, np.float32))
    apply(optimizer, weights, weights, optimizer.init(weights), lr=0.1, t=1)
    assert kernels.launches == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_kernel_declares_what_it_uses_and_what_the_driver_passes(name: str) -> None:
    optimizer = OPTIMIZERS.parse(name).build()
    kernel = optimizer.kernel
    assert kernel.slots == optimizer.slots
    assert len(kernel.constants) == len(optimizer.constants(0.1, 1, np.dtype(np.float32)))
    declared = [word.split()[1] for word in f"{kernel.in_params}, {kernel.out_params}".split(", ")]
    words = set(re.findall(r"[A-Za-z_]\w*", kernel.operation))
    assert len(declared) == len(set(declared))
    assert set(declared) <= words, "a parameter is not used"
    assert words - set(declared) <= {"T", "g", "sqrt", "before", "after", "c"}, "a word is not declared"
    assert not {"i", "n"} & words, "CuPy keeps these names for itself"
    assert not any(word.startswith("_") for word in words), "CuPy keeps such names for itself"


def test_square_sum_on_a_device_is_a_reduction_in_double_precision() -> None:
    calls = []

    class Namespace:
        def ReductionKernel(self, *arguments: str, **options: str) -> Any:
            calls.append((arguments, options))
            return lambda array: np.float64(sum(float(x) ** 2 for x in array._host))

    backend = dataclasses.replace(STRICT, namespace=Namespace())
    xp.register(backend)
    try:
        assert square_sum(StrictArray(np.array([3, 4], np.float32))) == 25.0
    finally:
        xp.unregister(backend)
    ((_, output, mapping, *_), _options) = calls[0]
    assert output == "float64 y" and mapping.count("(double)") == 2
