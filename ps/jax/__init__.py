"""JAX in a job: parameters as a pytree, trained by the servers around a jitted function.

import jax
import ps.jax

with ps.connect(optimizer="adam:lr=1e-3") as kv:
    params = ps.jax.init(kv, params)
    for x, y in kv.batches((xs, ys), batch_size=32, epochs=5):
        loss, grads = jax.jit(jax.value_and_grad(loss_of))(ps.jax.params(kv), x, y)
        params = ps.jax.step(kv, grads, loss=loss)

Nothing else in ps imports jax, and nothing is called back from inside a jitted function.
"""

from __future__ import annotations

try:
    import jax as jax
except ImportError as error:
    raise ImportError("ps.jax needs JAX: pip install 'paramserver[jax]'") from error

from ps.jax.pytree import init, params, step

__all__ = ["init", "params", "step"]
