"""LentTensors: a module that computes with tensors which are not its own, as ``torch.func.functional_call`` has it, but
that looks for the places of all tensors anew in each call, which takes as long as a small layer computes."""

from __future__ import annotations

from typing import Any

import torch

from ps.torch import bare_names


class LentTensors:
    """The places of a module's tensors, by their first names; one that is in several places has one name."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        state = [*bare_names.parameters(module), *bare_names.buffers(module)]
        names = {id(each): own for own, each in state}
        self._places: list[tuple[dict[str, Any], str, str]] = [
            (held, key, names[id(each)])
            for part in module.modules()
            for held in (part._parameters, part._buffers)
            for key, each in held.items()
            if each is not None and id(each) in names
        ]

    def call(self, state: dict[str, torch.Tensor], x: Any) -> Any:
        """Return what the module returns with these tensors. Those that it puts others in the place of are in ``state``
        afterwards; the module has its own again."""
        places = [place for place in self._places if place[2] in state]
        own = [held[key] for held, key, _ in places]
        try:
            for held, key, name in places:
                held[key] = state[name]
            return self._module(x)
        finally:
            for (held, key, name), tensor in zip(places, own, strict=True):
                state[name], held[key] = held[key], tensor
