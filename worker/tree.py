"""Tree: a model in nested dicts, lists, tuples and dataclasses, and the flat dict of its tensors by name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.errors import UsageError
from ps.sequences import rebuilt
from ps.worker.numbers import shown

DEEPEST = 64
"""Levels of a tree, at most."""
_NUMBERS = (int, float, complex, np.generic)


class Tree:
    """The shape of a nested model. A tensor's name is the keys, fields and indices on the way to it, joined by dots.

    The keys of a dict count in the order of the alphabet, so that workers that build it in different orders train the
    same model; what is made like it has its order.
    """

    def __init__(self, like: Any) -> None:
        self._like = like
        self.flat = {name: leaf for name, leaf in self.flatten(like).items() if leaf is not None}
        """The tensors of the model it was made of, by name; None is the place of none."""
        self._names = frozenset(self.flat)

    def flatten(self, values: Any) -> dict[str, Any]:
        """Return the leaves of a tree like this one, or of a part of it, by name; those of a flat dict as they are.

        Raises UsageError for names that are none, and for two leaves of one name.
        """
        found: dict[str, Any] = {}
        for name, leaf in _leaves(values, "", 0):
            if name in found:
                raise UsageError(f"two tensors of the model are called {name!r}, when keys are joined by dots")
            found[name] = leaf
        return found

    def demand(self, job: JobConfig) -> Tree:
        """Return this tree. Raises UsageError in a job where tensors are read one by one."""
        if job.overlap:
            raise UsageError("with overlap a model is one flat dict of arrays: each is read when it is needed")
        return self

    def by_name(self, values: Any) -> dict[str, Any]:
        """Return gradients or weights by name; None in the place of a whole branch stands for none of its tensors."""
        flat = self.flatten(values)
        return {name: leaf for name, leaf in flat.items() if leaf is not None or name in self._names}

    def build(self, flat: Mapping[str, Any]) -> Any:
        """Return a tree like this one, of tensors by name."""
        return _built(self._like, "", flat)


def tree_of(params: Any) -> Tree | None:
    """Return the tree that a model is, or None where it is a flat dict of arrays, or nothing of ours."""
    if isinstance(params, Mapping):
        return Tree(params) if any(_is_branch(value) for value in params.values()) else None
    return Tree(params) if _is_branch(params) else None


def _is_branch(value: Any) -> bool:
    """Whether a value has tensors in it: a list of numbers is one itself."""
    if isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return True
    return isinstance(value, list | tuple) and bool(value) and not _is_numbers(value, 0)


def _is_numbers(value: Any, depth: int) -> bool:
    if isinstance(value, list | tuple):
        return depth < DEEPEST and all(_is_numbers(item, depth + 1) for item in value)
    return isinstance(value, _NUMBERS)


def _parts(branch: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a branch, each with its key as a text, in the order in which they count."""
    if isinstance(branch, Mapping):
        for key in branch:
            if not isinstance(key, str) or not key:
                where = f" of {name!r}" if name else ""
                raise UsageError(f"the key {shown(key)}{where} is no name: keys of a model are texts")
        yield from ((key, branch[key]) for key in sorted(branch))
    elif isinstance(branch, list | tuple):
        yield from zip(_fields(branch) or map(str, range(len(branch))), branch, strict=True)
    else:
        yield from ((field.name, getattr(branch, field.name)) for field in dataclasses.fields(branch))


def _fields(branch: Any) -> tuple[str, ...]:
    """Return the names of a named tuple's parts; nothing for any other."""
    found: tuple[str, ...] = getattr(branch, "_fields", ())
    return found


def _leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST:
        raise UsageError(f"the model is nested more than {DEEPEST} levels deep, at {name[:80]!r}")
    for key, part in _parts(value, name):
        whole = f"{name}.{key}" if name else key
        if _is_branch(part):
            yield from _leaves(part, whole, depth + 1)
        else:
            yield whole, part


def _built(like: Any, name: str, flat: Mapping[str, Any]) -> Any:
    made = {}
    for key, part in _parts(like, name):
        whole = f"{name}.{key}" if name else key
        made[key] = _built(part, whole, flat) if _is_branch(part) else flat.get(whole)
    if isinstance(like, Mapping):
        return {key: made[key] for key in like}
    if isinstance(like, list | tuple):
        return rebuilt(like, made.values())
    found = copy.copy(like)
    for key, part in made.items():
        object.__setattr__(found, key, part)  # also of a frozen one
    return found
