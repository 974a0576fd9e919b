"""DeltaMasker: how this client's deltas become words under masks, and who it is to the others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from ps.config.job import JobConfig
from ps.config.secure import frames_of
from ps.protocol.layout import Chunk
from ps.secure.frames import MaskedFrames
from ps.secure.helped import HelpedClient, Masks
from ps.secure.identity import Lists, Signer, anybody
from ps.secure.masks import apply_masks
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
        self._chunks = chunks
        self._job_id = job_id
        self._least = job.secure_min
        self._most_examples = job.specs.secure.build().weight
        self._signer, self._lists = signer, lists
        self._told = SumHistory() if told is None else told
        self._rng = np.random.default_rng(int.from_bytes(os.urandom(16), "big"))

    def begin(self, task: int, round: int, rank: int) -> Masks:
        """Return this client's part in the masks of one task."""
        about = MaskedTask(self._job_id, round, task, rank)
        if self._helpers is not None:
            return HelpedClient(about, self._signer, self._helpers)
        return PairwiseClient(about, self._signer, self._lists, self._least, self._told)

    def frames(self, plain: Mapping[int, HostArray], examples: float, round: int, masks: Masks) -> dict[int, HostArray]:
        """Return a delta's frames under masks, as bytes. ``plain``: as the job's codec made them, finite."""
        weight = min(1.0, examples / self._most_examples) if self._most_examples else 1.0
        keys, found = masks.masks, {}
        for chunk in self._chunks:
            values = plain[chunk.index].view(chunk.dtype)
            words = self._frames.encode(chunk, values, weight, round, self._rng)
            apply_masks(words, self._frames.offset(chunk.index), keys)
            found[chunk.index] = words.view(np.uint8)
        return found
