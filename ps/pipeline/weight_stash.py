"""WeightStash: the versions of the weights with which a worker's waves compute, while the newest are further on.

A wave is the micro-batches of one step. With ``waves`` of them under way wave k has the weights after ``k - waves + 1``
updates, forward and backward, in every stage: weight stashing with vertical sync, Narayanan et al., PipeDream, 2019
(arXiv:1806.03377). For two waves that is PipeDream-2BW, 2021 (arXiv:2006.09503): two versions, and a delay of one.
"""

from __future__ import annotations

from collections.abc import Mapping

from ps.errors import StateError
from ps.xp import Array


class WeightStash:
    """Holds at most ``waves`` versions, and with a look-ahead the newest once more as it is."""

    def __init__(self, waves: int, lookahead: float = 0.0) -> None:
        """``lookahead``: weights are those that as many more updates like the last one would give.

        Chen et al., SpecTrain, 2018 (arXiv:1809.02839), which has the delay for it; of one update it is the point where
        Nesterov's method takes its gradient: Ajanthan et al., 2025 (arXiv:2505.01099).
        """
        self._delay = waves - 1
        self._lookahead = lookahead
        self._versions: dict[int, dict[str, Array]] = {}
        self._newest: tuple[int, dict[str, Array]] | None = None
        """The latest version as it is, where waves are given others."""
        self._first = 0

    def __len__(self) -> int:
        return len(self._versions)

    def begin(self, version: int) -> None:
        """Begin with this version, as where a worker comes in: there are none before it."""
        self._first, self._newest = version, None
        self._versions.clear()

    def version(self, wave: int) -> int:
        """Return how many updates are in the weights that a wave computes with."""
        return max(self._first, wave - self._delay)

    def has(self, version: int) -> bool:
        """Whether a version is kept."""
        return version in self._versions

    def keep(self, version: int, tensors: Mapping[str, Array]) -> None:
        """Keep a copy of these tensors as a version, unless it is kept already: before they are updated in place."""
        if version in self._versions:
            return
        own = {name: tensor.copy() for name, tensor in tensors.items()}
        before, ahead = self._newest, self._lookahead
        if ahead:
            self._newest = version, own
            if before is not None and before[0] == version - 1:
                own = {name: each + (each - before[1][name]) * each.dtype.type(ahead) for name, each in own.items()}
        self._versions[version] = own

    def of(self, wave: int) -> dict[str, Array]:
        """Return the tensors that a wave computes with. Waves come in order: versions before its own are dropped.

        Raises StateError for a version that was not kept.
        """
        version = self.version(wave)
        self._versions = {number: own for number, own in self._versions.items() if number >= version}
        if version not in self._versions:
            raise StateError(f"wave {wave} computes with the weights after {version} steps, which were not kept")
        return self._versions[version]
