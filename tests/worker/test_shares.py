"""Promises of the record of what clients hold: labels are counted, a line each, and it never costs the training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ps.record_files import SHARES, STAGES
from ps.worker.shares import MOST_LABELS, write_share, write_stages


def lines(folder: Path) -> list[object]:
    return [json.loads(line) for line in (folder / SHARES).read_text().splitlines()]


def test_every_client_adds_a_line_with_its_labels(tmp_path: Path) -> None:
    write_share(str(tmp_path), 3, 4, np.array([7, 1, 7, 7]))
    write_share(str(tmp_path), 0, 1, np.array([1], np.uint8))
    assert lines(tmp_path) == [
        {"rank": 3, "examples": 4, "labels": {"1": 1, "7": 3}},
        {"rank": 0, "examples": 1, "labels": {"1": 1}},
    ]


@pytest.mark.parametrize("labels", [None, np.zeros(5), np.zeros((5, 2), np.int64), np.arange(MOST_LABELS + 1)])
def test_what_are_no_classes_is_left_out(tmp_path: Path, labels: np.ndarray | None) -> None:
    write_share(str(tmp_path), 0, 5, labels)
    assert lines(tmp_path) == [{"rank": 0, "examples": 5}]


def test_a_folder_that_is_gone_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_share(str(tmp_path / "gone"), 0, 5)
    assert "is not written: No such file" in caplog.text


def test_a_worker_of_a_pipeline_adds_what_it_has_of_the_model(tmp_path: Path) -> None:
    write_stages(str(tmp_path), 1, [2, 3], 4, 800)
    assert json.loads((tmp_path / STAGES).read_text()) == {"rank": 1, "layers": [2, 3], "of": 4, "bytes": 800}
