"""Adam as a server applies it against the same in one fused pass, and the update in place, all in one process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from limits import in_place_update, interleave
from peers.fused_adam import loop

from ps.optim import OPTIMIZERS, apply

LR, T = 1e-3, 10


def adam(size: int, repeats: int) -> tuple[dict[str, float], str]:
    """Return the seconds of each, and how the fused loop was made or why there is none.

    Raises ValueError when the fused loop's result is not that of ``ps.optim``.
    """
    optimizer = OPTIMIZERS.spec("adam").build()
    rng = np.random.default_rng(0)
    w, g = rng.standard_normal(size, np.float32), rng.standard_normal(size, np.float32)
    state = optimizer.init(w)
    ours: Callable[[], object] = lambda: apply(optimizer, w, g, state, lr=LR, t=T)  # noqa: E731
    cases: dict[str, Callable[[], object]] = {"in place": in_place_update(size), "ps.optim": ours}
    fused, words = loop()
    if fused is not None:
        theirs, own = w.copy(), {name: slot.copy() for name, slot in state.items()}
        constants = optimizer.constants(LR, T, w.dtype)
        cases["fused loop"] = lambda: fused(theirs, g, own["m"], own["v"], constants)
        cases["fused loop"]()
        ours()
        if not np.allclose(w, theirs, rtol=1e-4, atol=1e-6):
            raise ValueError("the fused loop's weights are not those of ps.optim")
    return interleave(cases, repeats), words
