"""DeltaMasker: how this client's deltas become words under masks, and who it is to the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ps.config.job import JobConfig
from ps.config.privacy import noise_share_of
from ps.config.secure import adds_noise, frames_of
from ps.protocol.layout import Chunk
from ps.secure.frames import MaskedFrames
from ps.secure.helped import HelpedClient, Masks
from ps.secure.identity import Lists, Signer, anybody
from ps.secure.masks import apply_masks
from ps.secure.noise_share import NoiseShare
from ps.secure.pairwise import MaskedTask, PairwiseClient
from ps.secure.sums import SumHistory
from ps.xp import HostArray


class DeltaMasker:
    """Makes masks for each task anew, and puts them on."""

    def __init__(
        self,
        job: JobConfig,
        chunks: Sequence[Chunk],
        job_id: str,
        signer: Signer,
        lists: Lists,
        helpers: Lists = anybody,
        told: SumHistory | None = None,
    ) -> None:
        """``lists``: whom this client counts; ``helpers``: whom it takes for a helper; ``told``: its earlier sums."""
        self._helpers = helpers if job.specs.secure.build().helper else None
        frames = frames_of(job, chunks)
        assert frames is not None
        self._frames: MaskedFrames = frames
        self._share = noise_share_of(job, sum(chunk.size for chunk in chunks)) if adds_noise(job) else None
        self._chunks = chunks
        self._job_id = job_id
        self._least = job.secure_min
        self._most_examples = job.specs.secure.build().weight
        self._signer, self._lists = signer, lists
        self._told = SumHistory() if told is None else told
        self._rng = np.random.default_rng(int.from_bytes(os.urandom(16), "big"))

    def begin(self, task: int, round: int, rank: int, weights: bytes) -> Masks:
        """Return this client's part in the masks of one task. ``weights``: the digest of what it begins with."""
        about = MaskedTask(self._job_id, round, task, rank)
        if self._helpers is not None:
            return HelpedClient(about, weights, self._signer, self._helpers)
        return PairwiseClient(about, weights, self._signer, self._lists, self._least, self._told)

    def frames(self, plain: Mapping[int, HostArray], examples: float, round: int, masks: Masks) -> dict[int, HostArray]:
        """Return a delta's frames under masks, as bytes. ``plain``: as the job's codec made them, finite."""
        keys = masks.masks
        if self._share is not None:
            return self._masked(self._noisy(self._share, plain, round), keys)
        weight = min(1.0, examples / self._most_examples) if self._most_examples else 1.0
        encode = self._frames.encode
        words = (
            encode(chunk, plain[chunk.index].view(chunk.dtype), weight, round, self._rng) for chunk in self._chunks
        )
        return self._masked(words, keys)

    def _masked(self, words: Iterable[HostArray], keys: Sequence[tuple[bytes, int]]) -> dict[int, HostArray]:
        """Return each chunk's words under masks, as bytes."""
        found = {}
        for chunk, each in zip(self._chunks, words, strict=True):
            apply_masks(each, self._frames.offset(chunk.index), keys)
            found[chunk.index] = each.view(np.uint8)
        return found

    def _noisy(self, share: NoiseShare, plain: Mapping[int, HostArray], round: int) -> Iterator[HostArray]:
        """Yield each chunk's words with this client's share of the noise, of the delta clipped over all of them."""
        frames, chunks = self._frames, self._chunks
        scaled = share.scaled({chunk.index: plain[chunk.index].view(chunk.dtype) for chunk in chunks})
        turned = {chunk.index: frames.turn(chunk, scaled[chunk.index], round) for chunk in chunks}
        whole = share.whole(turned, frames.encoding, self._rng)
        noise = share.noise({index: part.size for index, part in whole.items()})
        for chunk in chunks:
            yield frames.encode_whole(chunk, whole[chunk.index] + noise[chunk.index], round)
