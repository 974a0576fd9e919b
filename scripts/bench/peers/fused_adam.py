"""Adam as one pass over the arrays: a C loop compiled for this processor, or numba's; what a fused update can reach."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from peers import needs

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
SOURCE = """
#include <math.h>
void adam(float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
          long n, float beta1, float beta2, float eps, float step) {
    for (long i = 0; i < n; i++) {
        float a = beta1 * m[i] + g[i], b = beta2 * v[i] + g[i] * g[i];
        m[i] = a;
        v[i] = b;
        w[i] -= step * a / (sqrtf(b) + eps);
    }
}
"""

Loop = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[float, ...]], None]


def loop() -> tuple[Loop | None, str]:
    """Return ``loop(w, g, m, v, (beta1, beta2, eps, step))`` and how it was made, or None and why there is none.

    The arithmetic is that of ``ps.optim``: discounted sums, bias corrections in ``eps`` and ``step``.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return _numba()
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "adam.c"), Path(folder, "adam.so")
        source.write_text(SOURCE)
        command = [compiler, *FLAGS, str(source), "-o", str(library), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            return None, f"{compiler} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}"
        function = ctypes.CDLL(str(library)).adam
    function.argtypes = [*[ctypes.c_void_p] * 4, ctypes.c_long, *[ctypes.c_float] * 4]
    function.restype = None

    def run(w: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, constants: tuple[float, ...]) -> None:
        function(w.ctypes.data, g.ctypes.data, m.ctypes.data, v.ctypes.data, w.size, *constants)

    return run, f"C, {Path(compiler).name} {' '.join(FLAGS[:3])}, one thread"


def _numba() -> tuple[Loop | None, str]:
    if needs("numba"):
        return None, "there is neither a C compiler nor numba"
    import numba

    @numba.njit(fastmath=True)
    def adam(w, g, m, v, beta1, beta2, eps, step):  # type: ignore[no-untyped-def]
        for i in range(w.size):
            m[i] = beta1 * m[i] + g[i]
            v[i] = beta2 * v[i] + g[i] * g[i]
            w[i] -= step * m[i] / (np.sqrt(v[i]) + eps)

    return lambda w, g, m, v, c: adam(w, g, m, v, *map(np.float32, c)), "numba, fastmath, one thread"
