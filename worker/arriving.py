"""Arriving: parameters of which some are still on their way. Reading one waits for it, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ps.xp import Array


class Arriving(Mapping[str, Array]):
    """The parameters by name, as a read-only mapping; ``arrive`` returns once a tensor is up to date."""

    def __init__(self, tensors: Mapping[str, Array], arrive: Callable[[str], None]) -> None:
        self._tensors = tensors
        self._arrive = arrive

    def __getitem__(self, name: str) -> Array:
        tensor = self._tensors[name]
        self._arrive(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shapes = (f"{name} {tensor.dtype}{list(tensor.shape)}" for name, tensor in self._tensors.items())
        return f"<parameters {', '.join(shapes)}>"
