"""The promise of the example in JAX: it learns the digits, in a job as alone."""

from __future__ import annotations

import runpy
import sys

import pytest

pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("sklearn", reason="the digits are scikit-learn's")


def test_the_example_learns_the_digits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["jax_mlp.py", "--epochs", "5"])
    runpy.run_module("ps.examples.jax_mlp", run_name="__main__")
    said = capsys.readouterr().out
    assert float(said.removeprefix("test accuracy ")) > 0.95
