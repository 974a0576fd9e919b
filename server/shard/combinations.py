"""Which combination a round's contributions are for, and what comes of it: as they are, under masks, or with noise."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.privacy.correlated_noise import CorrelatedNoise
from ps.privacy.correlated_releases import noise_bands
from ps.protocol.layout import Chunk
from ps.protocol.messages import MaskSum, RoundOrder, Unseal
from ps.secure.channel import from_text
from ps.secure.frames import MaskedFrames, WrongSum
from ps.secure.masks import KEY
from ps.server.job_key import JobKey
from ps.server.shard.checkpoint import Prepared
from ps.server.shard.combination import Combination
from ps.server.shard.masked_combination import MaskedCombination
from ps.server.shard.private_combination import PrivateCombination
from ps.xp import HostArray

log = logging.getLogger("ps.server")

AnyCombination: TypeAlias = Combination | MaskedCombination | PrivateCombination


def combination_for(
    job: JobConfig,
    frames: MaskedFrames | None,
    chunks: Mapping[int, Chunk],
    round: int,
    correlated: CorrelatedNoise | None = None,
) -> AnyCombination:
    """Return what combines a round's contributions. ``frames``: how they come, if they do so under masks.

    ``correlated``: the keys of noise that goes on from round to round, if it does.
    """
    if frames is not None:
        return MaskedCombination(frames, chunks, round)
    if job.specs.privacy is not None:
        return PrivateCombination(job.goal, chunks, correlated=correlated)
    return Combination(job.specs.aggregator.build(), chunks)


def correlated_noise(job: JobConfig) -> CorrelatedNoise | None:
    """Return what has the keys of a server's noise from round to round, where it is correlated."""
    bands = 0 if job.specs.privacy is None else job.specs.privacy.build().bands
    return CorrelatedNoise(noise_bands(bands)) if bands else None


def unseal(combination: AnyCombination, order: Unseal, here: tuple[int, int]) -> None:
    """Tell a combination the keys of what is left in it, if they are of the version and attempt that it is of.

    Raises BadMessage for what are no keys, or where nothing is masked.
    """
    keys = [(from_text(text, KEY), sign) for text, sign in order.keys]
    if not isinstance(combination, MaskedCombination):
        raise BadMessage("keys of masks, but nothing here is masked")
    if (order.version, order.attempt) == here:
        combination.unseal(keys)


def helped(combination: AnyCombination, message: MaskSum, payload: Any, key: JobKey, here: tuple[int, int]) -> bool:
    """Take a helper's sum of masks, if it is of the version and attempt that the combination is of.

    Return whether the sum can be read now. Raises BadMessage for one that the scheduler has not asked for.
    """
    if not isinstance(combination, MaskedCombination):
        raise BadMessage("a sum of masks, but nothing here is masked")
    if message.token != key.masks(message.version, message.attempt):
        raise BadMessage("a sum of masks that this server was not to be told")
    if (message.version, message.attempt) != here:
        return False
    combination.help(message, payload)
    return combination.ready


def demand_masks(combination: AnyCombination, order: RoundOrder) -> None:
    """Raise BadMessage for an order to keep a sum under its masks where deltas have none."""
    if order.phase == "sum" and not isinstance(combination, MaskedCombination):
        raise BadMessage(f"sum of round {order.version}: a sum of masks, but nothing here is masked")


def summed(combination: AnyCombination, prepared: Prepared) -> Prepared:
    """Return what is to be kept of a combination whose masks nobody has taken off yet: the sums as they are."""
    assert isinstance(combination, MaskedCombination)
    return dataclasses.replace(prepared, parts=combination.sums, masked=combination.count)


def go_on(combination: AnyCombination, kept: Prepared) -> None:
    """Go on in another process with the sums that ``summed`` made, if these are what is kept."""
    if kept.masked:
        assert isinstance(combination, MaskedCombination)
        combination.restore(kept.parts, kept.masked)


def results(
    combination: AnyCombination, indices: Iterable[int], order: RoundOrder
) -> dict[int, HostArray | None] | None:
    """Return the combination for each chunk; None, and a line, where what was summed under masks does not fit, or the
    keys of noise are lost."""
    if isinstance(combination, PrivateCombination):
        if why := combination.lacks(order):
            log.warning("%s: this attempt is given up", why)
            return None
        return combination.parts(order)
    try:
        return {index: combination.result(index, order.weights) for index in indices}
    except WrongSum as error:
        log.warning("%s", error)
        return None
