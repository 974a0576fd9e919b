"""A dozen of the schedules of ``scripts/chaos --nightly``: whatever is done to a run, giving it again brings it to its
end, as what its mode promises.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support import nightly as module
from support.kept import folder_with
from support.nightly import KINDS, Nightly, bits, once


@pytest.fixture(scope="module")
def nightly() -> Iterator[Nightly]:
    """A series, which knows the parameters of undisturbed runs from one schedule to the next."""
    series = Nightly(1, print)
    yield series
    series.close()


@pytest.mark.e2e
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(12))
def test_a_run_that_is_given_again_after_whatever_was_done_ends_as_promised(nightly: Nightly, number: int) -> None:
    nightly.run(number)


def test_other_bits_and_contributions_that_count_twice_are_seen(
    nightly: Nightly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_with(tmp_path / "kept", module.STEPS)
    sync = KINDS["sync, adam"]
    wanted = module.exported(tmp_path)
    monkeypatch.setattr(nightly, "wanted", lambda name, kind: wanted)
    bits(nightly, sync, tmp_path, "")
    wanted["w"] = np.frombuffer(wanted["w"], np.uint8)[::-1].tobytes()
    with pytest.raises(AssertionError, match="other bits"):
        bits(nightly, sync, tmp_path, "")
    with pytest.raises(AssertionError):  # two workers with 40 steps each are not in 40 versions
        once(nightly, KINDS["async"], tmp_path, "")
