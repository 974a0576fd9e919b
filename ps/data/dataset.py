"""Dataset: examples and their labels, as one value."""

from __future__ import annotations

from collections.abc import Iterator

from ps.dataclass import dataclass
from ps.errors import DataError
from ps.xp import Array


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dataset:
    """Examples ``x`` (n, ...) and labels ``y`` (n, ...); its length is n, and it unpacks as ``x, y``.

    DataError when there are not as many labels as examples.
    """

    x: Array
    y: Array

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise DataError(f"{len(self.x)} examples, but {len(self.y)} labels")

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Array]:
        return iter((self.x, self.y))

    def __repr__(self) -> str:
        return f"Dataset(x={self.x.dtype}{tuple(self.x.shape)}, y={self.y.dtype}{tuple(self.y.shape)})"

    def take(self, n: int) -> Dataset:
        """Return the first ``n`` examples (all, if there are fewer) without copying them; DataError below 1."""
        if n < 1:
            raise DataError(f"the first {n} examples: expected 1 or more")
        return Dataset(self.x[:n], self.y[:n])
