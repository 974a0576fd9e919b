"""Equal shares by chance, but what each client sees is noisier than what the one before it sees."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps import xp
from ps.dataclass import dataclass
from ps.errors import DataError
from ps.number import number
from ps.partition.owners import dealt, demand, shares
from ps.partition.rng import generator
from ps.xp import Array, HostArray


@dataclass(frozen=True, slots=True)
class Features:
    """Divide as iid does; client c of C sees its examples with Gaussian noise of deviation ``sigma`` * c / C.

    The noise-based feature imbalance of Li et al., Federated learning on non-IID data silos: an experimental study,
    ICDE 2022, which counts clients from 1 and says variance where its published code has the deviation. The noise
    belongs to the client and its examples: it is the same in each epoch and in each run of one seed.
    """

    by_label: ClassVar[bool] = False
    divides: ClassVar[bool] = True

    sigma: float = number(0.1, at_least=0, at_most=1e6)

    def divide(self, classes: HostArray, clients: int, rng: np.random.Generator) -> tuple[HostArray, ...]:
        """Return the shares; DataError when clients are more than examples."""
        demand(len(classes), clients)
        return shares(dealt(len(classes), clients, rng), clients)

    def distort(self, x: Array, client: int, clients: int, seed: int, purpose: int) -> Array:
        """Return ``x`` of this client with its noise added, in its dtype and on its side; it may be ``x`` itself.

        The same noise, bit for bit, on the host and on a device. DataError when ``x`` is not floating-point.
        """
        if not np.issubdtype(x.dtype, np.floating):
            raise DataError(f"partition features adds noise to floating-point examples, and these are {x.dtype}")
        level = self.sigma * client / clients
        if level == 0:
            return x
        draws = generator(seed, purpose, client)
        small = x.dtype.itemsize <= 4
        noise: HostArray = np.empty(x.shape, np.float32 if small else np.float64)
        draws.standard_normal(out=noise, dtype=np.float32 if small else np.float64)
        noise = (noise * level).astype(x.dtype)
        return x + (noise if xp.is_host(x) else xp.backend_of(x).to_device(noise))
