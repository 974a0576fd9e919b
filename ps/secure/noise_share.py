"""NoiseShare: one client's part in a private sum: its delta clipped, in whole steps, with its share of the noise.

Distributed differential privacy (Kairouz, Liu and Steinke, ICML 2021; Agarwal, Kairouz and Liu, NeurIPS 2021): nobody
but the client ever has a delta without noise, and a sum that masks are taken off has the noise of all who are in it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import numpy as np

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.privacy.grid import bound_of
from ps.privacy.noise import Entropy, new_key
from ps.privacy.skellam import MOST_DEVIATION, draw_skellam
from ps.secure.ring import Encoding
from ps.xp import HostArray

TRIES = 100
"""Times that a delta is rounded by chance; each holds with a probability above a third."""
ROOM = 8.0
"""Standard deviations of the noise of a sum for which there must be room in the ring."""


@dataclass(frozen=True, slots=True)
class NoiseShare:
    """What all clients of a job do alike; public.

    ``clip``: the L2 norm of a delta over all tensors. ``norm``: that of what it is rounded to, in steps of the
    encoding. ``variance``: of this client's noise, in squared steps.
    """

    clip: float
    norm: float
    variance: float

    def demand_room(self, encoding: Encoding) -> None:
        """Raise ConfigError, with the numbers, where sums with noise could wrap, or noise could not be drawn."""
        share = math.sqrt(self.variance)
        if share > MOST_DEVIATION:
            raise ConfigError(
                f"a share of noise of {share:.4g} steps, and {MOST_DEVIATION:.6g} are the most: take fewer bits= than "
                f"{encoding.bits}"
            )
        whole = ROOM * share * math.sqrt(encoding.clients)
        if whole > encoding.headroom:
            raise ConfigError(
                f"noise of up to {whole:.4g} steps, beside {encoding.clients} clients of {encoding.bits} bits, and a "
                f"ring of {encoding.ring} bits has room for {encoding.headroom}: they would wrap. Take fewer bits=, "
                f"ring=32, more --secure-min, or a larger eps"
            )

    def scaled(self, parts: Mapping[int, HostArray]) -> dict[int, HostArray]:
        """Return a delta's chunks held to the clip over all of them together: float64."""
        doubles = {index: part.astype(np.float64) for index, part in parts.items()}
        norm = math.sqrt(math.fsum(float(part @ part) for part in doubles.values()))
        bound = bound_of(norm, self.clip)
        return {index: part * bound for index, part in doubles.items()}

    def whole(
        self, parts: Mapping[int, HostArray], encoding: Encoding, rng: np.random.Generator
    ) -> dict[int, HostArray]:
        """Return chunks as whole steps, int64, whose norm over all of them is at most ``norm``, whatever came.

        By chance, again and again until it is; ``rng``'s chance is no secret.
        """
        most = encoding.levels // 2
        steps = {index: np.clip(part / encoding.step, -most, most) for index, part in parts.items()}
        for _ in range(TRIES):
            found = {index: np.floor(part + rng.random(part.size)) for index, part in steps.items()}
            if self._holds(found):
                break
        else:
            found = {index: np.trunc(part) for index, part in steps.items()}
            if not self._holds(found):
                raise ValueError(f"a delta that is no more than {self.clip} is more than {self.norm} steps")
        return {index: part.astype(np.int64) for index, part in found.items()}

    def _holds(self, found: Mapping[int, HostArray]) -> bool:
        return math.fsum(float(part @ part) for part in found.values()) <= self.norm**2

    def noise(self, sizes: Mapping[int, int], entropy: Entropy = os.urandom) -> dict[int, HostArray]:
        """Return new noise for chunks of these sizes, int64, keyed by the operating system."""
        key = new_key(entropy)
        return {index: draw_skellam(key, index, size, self.variance) for index, size in sizes.items()}
