#!/usr/bin/env python3
"""What secure aggregation costs: bytes a parameter, and a server's CPU time to add up and unmask over a plain sum.

scripts/bench/secure.py [--clients 100] [--parameters 1000000] [--gone 10]. One process; time is that of its CPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "tests")]  # its cohort is that of the tests

from ps.aggregators import AGGREGATORS
from ps.config.job import JobConfig
from ps.config.secure import frames_of
from ps.protocol.codec import encode
from ps.protocol.layout import Layout
from ps.protocol.messages import Cohort, Consent, Consents, KeyOffer, KeyShares, Reveal, ShareInbox, Unmask
from ps.secure.masks import apply_masks
from ps.server.shard.combination import Combination, Counted
from ps.server.shard.masked_combination import MaskedCombination
from support.masked import MaskingCohort


def cpu(work: Callable[[], object], turns: int = 3) -> float:
    """Return the least of some turns, in seconds of this process's CPU."""
    found = []
    for _ in range(turns):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--gone", type=int, default=10)
    args = parser.parse_args()
    count, survivors = args.clients, list(range(1, args.clients - args.gone + 1))
    job = JobConfig.from_dict(
        {"mode": "federated", "workers": count, "secure": "pairwise", "over_select": 1.0, "servers": 1}
    )
    layout = Layout.of({"w": np.zeros(args.parameters, np.float32)})
    chunks = layout.chunks(1, job.chunk_bytes)
    frames = frames_of(job, chunks)
    assert frames is not None
    own = {chunk.index: chunk for chunk in chunks}
    rng = np.random.default_rng(0)
    delta = rng.normal(0, 0.02, args.parameters).astype(np.float32)
    plain = {c.index: delta[c.start : c.stop] for c in chunks}

    began = time.process_time()
    cohort = MaskingCohort(count, least=job.secure_min)
    agreed = time.process_time() - began
    began = time.process_time()
    words = {c.index: frames.encode(c, plain[c.index], 1.0, 0, rng) for c in chunks}
    for chunk in chunks:
        apply_masks(words[chunk.index], frames.offset(chunk.index), cohort.clients[1].masks)
    masked = time.process_time() - began
    unsealing = cohort.unsealing(survivors)
    began = time.process_time()
    keys = unsealing.left()
    combined = time.process_time() - began

    upload = sum(part.nbytes for part in words.values())
    offers = tuple((task, rank, text) for task, (rank, text) in cohort.offers.items())
    shares, inbox = tuple(cohort.bundles[1].items()), tuple((t, cohort.bundles[t][1]) for t in sorted(cohort.edges[1]))
    signatures = tuple((task, cohort.clients[task].consent(survivors)) for task in survivors)
    reveal = cohort.clients[1].reveal(signatures)
    about = [
        KeyOffer(1, 1, 1, cohort.offers[1][1]),
        Cohort(1, 1, offers),
        KeyShares(1, 1, 1, shares),
        ShareInbox(1, inbox),
        Unmask(1, tuple(survivors)),
        Consent(1, 1, 1, signatures[0][1]),
        Consents(1, signatures),
        Reveal(1, 1, 1, reveal),
    ]
    beside = sum(len(encode(message)) for message in about)

    def add_plain() -> None:
        combination = Combination(AGGREGATORS.parse("mean").build(), own)
        for _ in survivors:
            combination.add(Counted(1.0, 1.0, 1.0, plain))
        for index in own:
            combination.result(index, ())

    def add_masked(left: list[tuple[bytes, int]]) -> MaskedCombination:
        combination = MaskedCombination(frames, own, 0)
        for _ in survivors:
            combination.add(Counted(1.0, 1.0, 1.0, words))
        combination.unseal(left)
        return combination

    def read(left: list[tuple[bytes, int]]) -> None:
        combination = add_masked(left)
        for chunk in own.values():  # the sum is of the same words again and again: what is read is not looked at
            total = combination._sums[chunk.index].copy()
            apply_masks(total, frames.offset(chunk.index), left, inverse=True)
            frames.encoding.decode(total[: chunk.size], len(survivors), np.float64).astype(np.float32)

    base, pairwise = cpu(add_plain), cpu(lambda: read(keys))
    helped = cpu(lambda: read(keys[:1]))
    print(f"{count} clients, {args.gone} gone, {args.parameters} parameters; {frames.encoding.bits} bits of 16")
    print(f"upload       {upload / args.parameters:.4f} bytes a parameter")
    print(f"beside it    {beside / args.parameters:.4f} bytes a parameter, both ways ({beside} bytes)")
    print(f"plain sum    {base * 1e3:.0f} ms of CPU")
    print(f"pairwise     {pairwise * 1e3:.0f} ms, {pairwise / base:.2f} times that; {len(keys)} masks taken off")
    print(f"helper       {helped * 1e3:.0f} ms, {helped / base:.2f} times that")
    print(f"a client     {agreed / count * 1e3:.0f} ms to agree, {masked * 1e3:.0f} ms to encode and mask")
    print(f"scheduler    {combined * 1e3:.0f} ms to put {len(keys)} keys together")


if __name__ == "__main__":
    main()
