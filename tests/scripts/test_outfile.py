"""Promises of a benchmark's files: whether they can be written is known before anything is measured."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest
from outfile import outfile

SCRIPTS = ("accuracy", "aggregate", "bubble", "compare", "compress", "federated_server", "gpu", "optim", "soak", "wire")


def test_a_file_that_cannot_be_written_is_refused_and_one_that_can_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("before")
    assert outfile(str(tmp_path / "there")) == tmp_path / "there"
    assert (tmp_path / "there").read_text() == "before"
    for name in (str(tmp_path), str(tmp_path / "gone" / "x"), "/dev/null", "a\0b"):
        with pytest.raises(argparse.ArgumentTypeError, match="cannot write the figures to "):
            outfile(name)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_asks_first(name: str) -> None:
    path = Path(importlib.import_module("outfile").__file__ or "").with_name(f"{name}.py")
    assert '"--json", type=outfile' in path.read_text()
