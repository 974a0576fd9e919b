"""The digest of a worker's first batch, by which the scheduler finds workers that train on the same data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

MOST = 1 << 14
"""Elements of a tensor that are looked at, at most."""


def note_first_batch(module: torch.nn.Module, note: Callable[[str], None]) -> None:
    """Give ``note`` the digest of what the module is first called with to be trained, if there are tensors in it."""

    def look(_: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if not (module.training and torch.is_grad_enabled()) or torch.compiler.is_compiling():
            return
        handle.remove()
        if found := digest((args, kwargs)):
            note(found)

    handle = module.register_forward_pre_hook(look, with_kwargs=True)


def digest(values: Any) -> str:
    """Return 32 hexadecimal digits for the tensors in a batch, whatever it is; nothing where there are none."""
    found, any_tensor = hashlib.blake2b(digest_size=16), False
    for tensor in _tensors(values):
        any_tensor = True
        flat = tensor.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // MOST)].cpu().contiguous()
        found.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
        found.update(some.view(torch.uint8).numpy().tobytes())
    return found.hexdigest() if any_tensor else ""


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        if values.layout is torch.strided and values.numel():
            yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
