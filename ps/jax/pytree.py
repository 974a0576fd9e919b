"""Pytrees: a model of JAX arrays as tensors by name, and back. What a script has of it never changes under its hands.

A connection's weights change in place, and JAX may take an array of NumPy for its own memory, or read it later, in the
background. So what a script gets is made of copies that nothing else knows: arrays of earlier steps keep their values.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten

from ps import xp
from ps.dataclass import dataclass
from ps.errors import GradientError, StateError, UsageError
from ps.worker import KV

ROOT = "params"
"""What the only tensor of a model is called that is no tree."""
WIDE = ("float64", "int64", "uint64", "complex128")


@dataclass(frozen=True, slots=True)
class Pytree:
    """The structure of a model, the names of its leaves in order, and which of them have gradients."""

    structure: Any
    names: tuple[str, ...]
    trained: frozenset[str]

    def build(self, tensors: Mapping[str, Any]) -> Any:
        """Return the tree with copies of tensors, as JAX arrays."""
        return tree_unflatten(self.structure, [_own(tensors[name]) for name in self.names])


_PYTREES: weakref.WeakKeyDictionary[KV, Pytree] = weakref.WeakKeyDictionary()
"""What each connection trains."""


def init(
    kv: KV, tree: Any, kinds: Mapping[str, str] | None = None, groups: Mapping[str, Mapping[str, Any]] | None = None
) -> Any:
    """Set the model's first values, once, and return the parameters to train: the same tree, of JAX arrays.

    A tensor's name is the keys and indices on the way to it, joined by dots: ``layers.0.w``. ``kinds`` and ``groups``
    are as in ``kv.init``. Raises what that does, and UsageError for a leaf of 64 bits where JAX has x64 disabled, since
    it would make 32 of them.
    """
    leaves, structure = tree_flatten_with_path(tree)
    given: dict[str, Any] = {}
    for path, leaf in leaves:
        name = _name(path)
        if name in given:
            raise UsageError(f"two tensors of the model are called {name!r}, when keys are joined by dots")
        given[name] = _handed(kv, leaf, f"tensor {name!r}", UsageError)
        _demand_precision(name, given[name])
    kv.init(given, kinds, groups)
    found = _PYTREES[kv] = Pytree(structure, tuple(given), frozenset(kv.grads))
    return found.build(kv.params)


def params(kv: KV) -> Any:
    """Return the parameters as they are now, as new arrays. Raises StateError before ``init``.

    In a federated job each round begins with other ones than the last step of the round before has returned.
    """
    return _pytree(kv).build(kv.params)


def step(kv: KV, grads: Any, *, examples: float | None = None, partial: bool = False, **metrics: Any) -> Any:
    """Give one batch's gradients, a tree like the parameters, and return the new parameters as new arrays.

    Gradients of tensors that are not trained (buffers, counters, frozen ones) are left out, since differentiating the
    whole tree has them too. In the place of a tensor without a gradient is None, with ``partial``. All else is as in
    ``kv.step``, whose errors this raises.
    """
    pytree = _pytree(kv)
    given: dict[str, Any] = {}
    for path, leaf in tree_flatten_with_path(grads)[0]:
        name = _name(path)
        if name in pytree.trained or name not in pytree.names:
            given[name] = _handed(kv, leaf, f"gradient of {name!r}", GradientError)
    kv.step(given, examples=examples, partial=partial, **metrics)
    return pytree.build(kv.params)


def _pytree(kv: KV) -> Pytree:
    if kv not in _PYTREES:
        raise StateError("no parameters yet: call ps.jax.init(kv, params) first")
    return _PYTREES[kv]


def _name(path: Any) -> str:
    return keystr(path, simple=True, separator=".") or ROOT


def _handed(kv: KV, leaf: Any, what: str, error: type[UsageError] | type[GradientError]) -> Any:
    """Return a leaf as the connection reads it: on the host its memory, on a device itself, by DLPack."""
    if isinstance(leaf, jax.core.Tracer):
        raise error(f"{what} is traced: call ps.jax outside of functions that are jitted or differentiated")
    if isinstance(leaf, int | float | complex):
        leaf = jnp.asarray(leaf)  # in JAX's own precision
    if not isinstance(leaf, jax.Array) or kv.device.backend is not xp.NUMPY:
        return leaf
    try:
        return np.asarray(leaf)
    except TypeError as found:  # a random key, or what is spread over several processes
        raise error(f"{what} is no array of numbers: {found}") from None


def _demand_precision(name: str, leaf: Any) -> None:
    dtype = str(getattr(leaf, "dtype", ""))
    if dtype in WIDE and not jax.config.jax_enable_x64:
        raise UsageError(
            f"tensor {name!r} is {dtype}, of which JAX would make {dtype.replace('64', '32').replace('128', '64')}: "
            f"convert it first, or jax.config.update('jax_enable_x64', True)"
        )


def _own(tensor: Any) -> jax.Array:
    """Return a copy: of ours and complete before the connection's memory can change."""
    if xp.is_host(tensor):
        return jnp.asarray(np.array(tensor))
    whole = tensor.copy()  # a part of a buffer lies anywhere, which JAX refuses
    return jax.block_until_ready(jax.dlpack.from_dlpack(whole))
