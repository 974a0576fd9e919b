"""Mechanism: by which noise a federated job is made differentially private, as the numbers of ``--dp``."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from ps.dataclass import dataclass
from ps.number import MOST_CLIENTS, number
from ps.privacy.composition import Composition, Conditions, IndependentReleases
from ps.privacy.correlated_releases import MOST_ROWS, CorrelatedReleases
from ps.privacy.grid import LEAST_CLIP, MOST_CLIP, MOST_NOISE
from ps.privacy.sampled_releases import SampledReleases
from ps.privacy.skellam import SkellamReleases
from ps.spec import Registry, Spec


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Each round's sum of clipped deltas gets independent Gaussian noise (McMahan et al., ICLR 2018).

    What is protected is a client: the models that are published are (eps, delta)-indistinguishable from those that
    would be if nothing that one client sent, in all rounds together, had been counted. Deltas are clipped to the L2
    norm ``clip`` over all tensors, added unweighted, and divided by a number that does not depend on who came.
    """

    delta: float = number(above=0, below=0.5)
    clip: float = number(at_least=LEAST_CLIP, at_most=MOST_CLIP)
    """The L2 norm of a delta over all tensors, at most; with ``quantile`` that of the first round."""
    eps: float = number(0.0, at_least=0, at_most=1000)
    """The budget; 0: none, and ``noise`` must be given."""
    noise: float = number(0.0, at_least=0, at_most=MOST_NOISE)
    """The noise multiplier: standard deviations of the sum's noise over ``clip``; 0: the least that ``eps`` allows."""
    spare: int = number(0, at_least=0, at_most=MOST_CLIENTS, whole=True)
    """Attempts that may be abandoned after their noise was drawn, and are paid for beside the rounds."""
    quantile: float = number(0.0, at_least=0, below=1)
    """Adapt the clip until this share of the deltas is not clipped (Andrew et al., NeurIPS 2021); 0: do not."""
    rate: float = number(0.2, above=0, at_most=10)
    """By how much the clip adapts in a round."""

    sampled: ClassVar[bool] = False
    distributed: ClassVar[bool] = False
    colluding: ClassVar[int] = 0
    separation: ClassVar[int] = 0
    participations: ClassVar[int] = 0
    bands: ClassVar[int] = 0

    def composition(self, conditions: Conditions) -> Composition:
        """Return what releases cost: every client is taken to be in each of them."""
        return IndependentReleases()


@dataclass(frozen=True, slots=True)
class SampledGaussian(Gaussian):
    """As ``Gaussian``, where each client is drawn for a round by itself, with the same probability (Poisson sampling).

    The probability is the contributions that a round is to have over all clients. Who was drawn must be known to
    nobody from whom the models are to be protected (Abadi et al., CCS 2016; McMahan et al., ICLR 2018).
    """

    sampled: ClassVar[bool] = True

    def composition(self, conditions: Conditions) -> Composition:
        """Return what releases cost of which each client is in some."""
        return SampledReleases(min(1.0, conditions.clients / max(1, conditions.population)))


@dataclass(frozen=True, slots=True)
class Skellam:
    """Clients clip, and add a share of the noise each, under masks: nobody has a delta, or a sum, without it.

    Noise is enough if as many clients are in a sum as must be, less those that tell their shares. Clips do not adapt:
    that needs a count of who was clipped. Agarwal, Kairouz and Liu, NeurIPS 2021.
    """

    delta: float = number(above=0, below=0.5)
    clip: float = number(at_least=LEAST_CLIP, at_most=MOST_CLIP)
    eps: float = number(0.0, at_least=0, at_most=1000)
    noise: float = number(0.0, at_least=0, at_most=MOST_NOISE)
    spare: int = number(0, at_least=0, at_most=MOST_CLIENTS, whole=True)
    colluding: int = number(0, at_least=0, at_most=MOST_CLIENTS, whole=True)
    """Clients that may work together with servers and scheduler, whose shares of noise protect nobody."""

    sampled: ClassVar[bool] = False
    distributed: ClassVar[bool] = True
    separation: ClassVar[int] = 0
    participations: ClassVar[int] = 0
    bands: ClassVar[int] = 0
    quantile: ClassVar[float] = 0.0
    rate: ClassVar[float] = 0.0

    def composition(self, conditions: Conditions) -> Composition:
        """Return what sums cost: every client is taken to be in each of them."""
        return SkellamReleases(conditions.steps, conditions.elements)


@dataclass(frozen=True, slots=True)
class CorrelatedGaussian:
    """Gaussian noise of which each round takes back part of what those before it had (DP-FTRL).

    For clients that come when they like: none is sampled, but after a round that it was in each is left out of the next
    ones. Kairouz et al., ICML 2021; Choquette-Choo et al., NeurIPS 2023. Clips do not adapt: the sequence has one.
    """

    delta: float = number(above=0, below=0.5)
    clip: float = number(at_least=LEAST_CLIP, at_most=MOST_CLIP)
    separation: int = number(at_least=1, at_most=MOST_ROWS, whole=True)
    """A client that was in a round is in none of the next so many less one."""
    eps: float = number(0.0, at_least=0, at_most=1000)
    noise: float = number(0.0, at_least=0, at_most=MOST_NOISE)
    spare: int = number(0, at_least=0, at_most=MOST_CLIENTS, whole=True)
    participations: int = number(0, at_least=0, at_most=MOST_ROWS, whole=True)
    """Rounds of a sequence that a client is in, at most; 0: as many as the separation allows."""
    bands: int = number(8, at_least=1, at_most=64, whole=True)
    """Rounds whose noise is in one; 1: noise is independent."""

    sampled: ClassVar[bool] = False
    distributed: ClassVar[bool] = False
    colluding: ClassVar[int] = 0
    quantile: ClassVar[float] = 0.0
    rate: ClassVar[float] = 0.0

    def composition(self, conditions: Conditions) -> Composition:
        """Return what sequences cost."""
        return CorrelatedReleases(self.bands, self.separation, self.participations)


Mechanism: TypeAlias = Gaussian | SampledGaussian | Skellam | CorrelatedGaussian


MECHANISMS: Registry[Mechanism] = Registry(
    "dp",
    {"ftrl": CorrelatedGaussian, "gaussian": Gaussian, "poisson": SampledGaussian, "skellam": Skellam},
    pluggable=False,
)
"""The mechanisms, one line each."""

DEFAULT = "gaussian"


def parse_privacy(text: str) -> Spec[Mechanism]:
    """Read ``eps=8,delta=1e-6,clip=1`` or the same after the name of a mechanism. ConfigError when it is wrong."""
    name, colon, _ = text.partition(":")
    return MECHANISMS.parse(text if colon or "=" not in name else f"{DEFAULT}:{text}")
