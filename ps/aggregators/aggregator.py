"""Aggregator: the three interfaces of which every aggregator fulfils one. ``aggregator.kind`` tells which.

What an aggregator must see decides what a server must keep: a server has some chunks of each delta, and nobody has all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from ps.xp import HostArray


class Fold(Protocol):
    """Contributions are added as they come and forgotten: ``sum w_i s_i x_i / sum w_i``."""

    @property
    def kind(self) -> Literal["fold"]:
        """Which interface this is."""

    @property
    def least(self) -> int:
        """The fewest contributions it makes sense for."""

    @property
    def by_norm(self) -> bool:
        """Whether ``scale`` looks at norms; otherwise it is 1 and they need not be known."""

    def models(self, contributions: int) -> int:
        """Return how many vectors of the model's size a server holds beside the weights, at most."""

    def weight(self, examples: float) -> float:
        """Return what a contribution weighs that claims so many examples."""

    def scale(self, norm: float, typical: float) -> float:
        """Return what a contribution is multiplied with, which does not change its weight.

        ``norm`` is its L2 norm over the whole model, finite; ``typical`` the median norm of recent contributions, as
        they came, or 0 when there are none.
        """


class Weigh(Protocol):
    """All contributions of a round are held until their distances say what each weighs: ``sum a_i x_i``."""

    @property
    def kind(self) -> Literal["weigh"]:
        """Which interface this is."""

    @property
    def least(self) -> int:
        """The fewest contributions it makes sense for."""

    def models(self, contributions: int) -> int:
        """Return how many vectors of the model's size a server holds beside the weights, at most."""

    def weights(self, distances: HostArray) -> HostArray:
        """Return each contribution's weight, float64 (n,), none negative, with sum 1.

        ``distances``: float64 (n, n), the squared L2 distances of n contributions over the whole model: the sum of
        ``ps.aggregators.distances`` over all chunks. Those too large for a number may be infinite. UsageError when
        there are fewer than ``least``.
        """


class Combine(Protocol):
    """All contributions of a round are held and combined element by element, each chunk for itself."""

    @property
    def kind(self) -> Literal["combine"]:
        """Which interface this is."""

    @property
    def least(self) -> int:
        """The fewest contributions it makes sense for."""

    def models(self, contributions: int) -> int:
        """Return how many vectors of the model's size a server holds beside the weights, at most."""

    def combine(self, parts: Sequence[HostArray], out: HostArray) -> None:
        """Write the combination of ``parts``, at least one, 1-D, of one length and dtype, into ``out``.

        ``out``: like a part, and it may be one; otherwise parts are only read. Scratch memory is some blocks, however
        long they are.
        """


Aggregator: TypeAlias = Fold | Weigh | Combine
