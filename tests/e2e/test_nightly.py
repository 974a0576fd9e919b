"""One schedule of each kind of ``scripts/chaos --nightly``: whatever is done to a run, it ends as its mode promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import nightly_kinds as module
from support.kept import folder_with
from support.nightly import Nightly
from support.nightly_kinds import KINDS, Ended, bits, once


@pytest.fixture(scope="module")
def nightly() -> Iterator[Nightly]:
    """A series, which knows the parameters of undisturbed runs from one schedule to the next."""
    series = Nightly(1, print, forked=True)
    yield series
    series.close()


@pytest.mark.e2e
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(len(KINDS)))
def test_a_run_that_is_given_again_after_whatever_was_done_ends_as_promised(nightly: Nightly, number: int) -> None:
    nightly.run(number)


def test_other_bits_and_contributions_that_count_twice_are_seen(
    nightly: Nightly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("found", "wanted"):
        folder_with(tmp_path / name / "kept", module.STEPS)
    found, wanted = Ended(tmp_path / "found", ""), Ended(tmp_path / "wanted", "")
    monkeypatch.setattr(nightly, "wanted", lambda kind: wanted)
    bits(nightly, KINDS["sync, adam"], found)
    monkeypatch.setattr(nightly, "wanted", lambda kind: other)
    folder_with(tmp_path / "other" / "kept", module.STEPS - 1)
    other = Ended(tmp_path / "other", "")
    with pytest.raises(AssertionError, match="other bits"):
        bits(nightly, KINDS["sync, adam"], found)
    with pytest.raises(AssertionError):  # two workers with 40 steps each are not in 40 versions
        once(nightly, KINDS["async"], found)
