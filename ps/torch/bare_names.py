"""Bare names: what a model's tensors are called without the wrappers of ``torch.compile`` and data parallelism."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.parallel import DataParallel, DistributedDataParallel

COMPILED = "_orig_mod"
"""Where ``torch.compile`` keeps the module that it compiled."""


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside of ``torch.compile``, DataParallel and DistributedDataParallel."""
    while True:
        inner = module._modules.get(COMPILED)
        if inner is None and isinstance(module, DataParallel | DistributedDataParallel):
            inner = module.module
        if inner is None:
            return module
        module = inner


def parameters(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield each parameter once, by its first name: a tied weight has one."""
    seen = set()
    for prefix, inner in _modules(module, "", set()):
        for name, parameter in inner._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{prefix}{name}", parameter


def buffers(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each buffer that belongs to the model's state once, by its first name."""
    seen = set()
    for prefix, inner in _modules(module, "", set()):
        for name, buffer in inner._buffers.items():
            if buffer is not None and id(buffer) not in seen and name not in inner._non_persistent_buffers_set:
                seen.add(id(buffer))
                yield f"{prefix}{name}", buffer


def _modules(module: torch.nn.Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, torch.nn.Module]]:
    module = unwrapped(module)
    if id(module) in seen:
        return
    seen.add(id(module))
    yield prefix, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _modules(child, f"{prefix}{name}.", seen)
