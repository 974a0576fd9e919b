"""PrivacyBudget: what has been paid for, what may be, and with which clip and noise. Pure, but for the noise it draws.

A release is paid for when its noise is *about to be* drawn: whoever keeps this across restarts must have it on disk
before a server hears of it. Attempts that are abandoned afterwards, restarts and repetitions have cost what they cost.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from ps.errors import ConfigError
from ps.privacy.accountant import affordable
from ps.privacy.clipping import adapted, count_deviation, delta_noise
from ps.privacy.composition import Conditions
from ps.privacy.mechanism import Mechanism
from ps.privacy.noise import Entropy, draw, new_key
from ps.privacy.sequences import Sequences

COUNT_STEPS = 1 << 20
"""Steps of the grid for one client's bit in the count of unclipped deltas."""


class PrivacyBudget:
    """The account of one job."""

    def __init__(self, mechanism: Mechanism, conditions: Conditions, entropy: Entropy = os.urandom) -> None:
        """ConfigError for what cannot be accounted."""
        self.mechanism, self._entropy = mechanism, entropy
        self.denominator = conditions.clients
        composition = mechanism.composition(conditions)
        self._cost = lru_cache(maxsize=4)(composition.epsilon)  # it is asked for again until the next release
        wanted = conditions.rounds + mechanism.spare
        self.noise = mechanism.noise or composition.noise_for(mechanism.eps, mechanism.delta, wanted)
        """The multiplier that is accounted for a release, all that it reveals together."""
        self.sequences = Sequences(mechanism.separation, mechanism.participations)
        """The releases that are paid for."""
        self.most = self._most(wanted)
        """Those that may be paid for, if there is a budget: never more than it was asked to last for."""
        self.clip = mechanism.clip
        self._next_clip = mechanism.clip
        try:
            count = count_deviation(self.denominator)
            self._delta_noise = delta_noise(self.noise, count) if mechanism.quantile else self.noise
        except ValueError as error:
            raise ConfigError(f"dp: {error}; with quantile= there must be more clients in a round") from None
        if self.most is not None and self.most < 1:
            cost = self.epsilon(1)
            raise ConfigError(
                f"dp: one round with noise={self.noise:g} costs {cost:.4g}, more than eps={mechanism.eps:g}"
            )

    def _most(self, wanted: int) -> int | None:
        about = self.mechanism
        if not about.eps:
            return None
        return affordable(self.epsilon, about.eps, wanted) if about.noise else wanted

    def epsilon(self, *releases: int) -> float:
        """Return what so many releases cost, in a sequence each."""
        return self._cost(self.noise, releases, self.mechanism.delta)

    @property
    def releases(self) -> int:
        """How many are paid for."""
        return sum(self.sequences.lengths)

    @property
    def deviation(self) -> float:
        """The standard deviation of the noise of a sum of deltas."""
        return self._delta_noise * self.clip

    @property
    def exhausted(self) -> bool:
        """Whether one more release would cost more than there is."""
        if self.most is None:
            return False
        *ended, rows = self.sequences.lengths
        return self.releases >= self.most or (bool(ended) and self.epsilon(*ended, rows + 1) > self.mechanism.eps)

    @property
    def spent(self) -> float:
        """The epsilon of what is paid for."""
        return self.epsilon(*self.sequences.lengths)

    def pay(self, unclipped: int, clients: Collection[int]) -> None:
        """Pay for a release of deltas of these clients, of which so many were not clipped. It must not be exhausted."""
        if self.exhausted:
            raise RuntimeError("the privacy budget is spent")
        counted = len(clients)
        self.sequences.release(clients)
        about = self.mechanism
        if about.quantile:
            halves = COUNT_STEPS // 2 * (2 * unclipped - counted)
            deviation = COUNT_STEPS * count_deviation(self.denominator)
            noisy = halves + int(draw(new_key(self._entropy), 0, 1, deviation)[0])
            share = noisy / COUNT_STEPS / self.denominator + 0.5
            self._next_clip = adapted(self.clip, share, about.quantile, about.rate)

    def released(self) -> None:
        """The release that was paid for last is published: the clip is the next one."""
        self.clip = self._next_clip

    def status(self) -> dict[str, Any]:
        """Return what ``psctl status`` shows: settings, and what is a consequence of what was released."""
        about = self.mechanism
        return {
            "eps": about.eps or None,
            "delta": about.delta,
            "noise": round(self.noise, 6),
            "clip": self.clip,
            "clients": self.denominator,
            "releases": self.releases,
            "sequences": self.sequences.number + 1,
            "most": self.most,
            "spent": round(self.spent, 6),
        }

    def dump(self) -> dict[str, Any]:
        """Return what a restarted scheduler must know, as plain values; there is no secret in it."""
        return {
            "releases": self.releases,
            "clip": self.clip,
            "next_clip": self._next_clip,
            "noise": self.noise,
            "spent": self.spent,
            "sequences": self.sequences.dump(),
        }

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned. ValueError for what nobody can have paid."""
        releases, clip, after = int(values["releases"]), float(values["clip"]), float(values["next_clip"])
        if releases < 0 or not 0 < clip < math.inf or not 0 < after < math.inf:
            raise ValueError(f"{releases} releases with a clip of {clip}")
        if not math.isclose(float(values["noise"]), self.noise, rel_tol=1e-9):
            raise ValueError(f"releases with noise {values['noise']}, and not {self.noise}")
        self.sequences.load(values["sequences"])
        if self.releases != releases:
            raise ValueError(f"{releases} releases in sequences of {self.sequences.lengths}")
        self.clip, self._next_clip = clip, after
