"""Torch's tensors, and NumPy's and CuPy's arrays beside them, as the arrays of a pipeline."""

from __future__ import annotations

from typing import Any

import torch

from ps import xp
from ps.pipeline.arrays import ArrayKind
from ps.torch.device import as_torch
from ps.torch.tensor_memory import numbers, seen
from ps.xp import Array, HostArray


def tensor(value: Any) -> torch.Tensor:
    """Return an array as a tensor over the same memory."""
    return value if isinstance(value, torch.Tensor) else seen(value)


def array(value: torch.Tensor) -> Array:
    """Return a tensor's numbers as an array, where they are."""
    return xp.asarray(value.detach()) if value.is_cuda else numbers(value)


def _array(value: Any) -> Array:
    return array(value) if isinstance(value, torch.Tensor) else value


def _join(parts: list[Any], axis: int) -> torch.Tensor:
    return torch.cat([tensor(part) for part in parts], axis)


def _to_host(value: Any) -> HostArray:
    return numbers(value) if isinstance(value, torch.Tensor) else xp.to_host(value)


def tensors(device: xp.Device = xp.CPU) -> ArrayKind:
    """Return the arrays of a pipeline whose modules compute on this device."""
    types, there = (torch.Tensor, *(each.array_type for each in xp.backends())), as_torch(device)
    return ArrayKind(types, _join, _to_host, lambda value: tensor(value).to(there), lambda given: given.copy(), _array)


TENSORS = tensors()
"""Wherever they are."""
