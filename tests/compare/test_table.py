"""Promises of the terminal's tables: every run, how it ended, and the last lines of what failed."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich.console import Console

from ps.compare.table import tables, verdict
from support.made import report


def test_runs_dropouts_failures_and_notes_are_told(tmp_path: Path) -> None:
    found = report(tmp_path)
    out = StringIO()
    console = Console(file=out, width=140)
    for part in tables(found):
        console.print(part)
    text = out.getvalue()
    for words in ("Federated, non-IID (shards:2)", "failed (1)", "training lost", "went on", "not run", "98.03 %"):
        assert words in text
    assert "ValueError: <what> & why" in text
    assert "All runs have seen about as many examples." in text


def test_the_tables_fit_80_columns_with_all_their_figures(tmp_path: Path) -> None:
    found = report(tmp_path)
    for run in (*found["runs"], *found["dropouts"]):
        run["title"] = "Federated, non-IID (dirichlet:0.3,balance=1,least=10)"
    out = StringIO()
    console = Console(file=out, width=80)
    for part in tables(found):
        console.print(part)
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80
    assert "…" not in out.getvalue() and "least=10" in out.getvalue() and "98.03 %" in out.getvalue()


def test_a_run_that_was_over_too_soon_is_not_called_robust() -> None:
    assert verdict({"ended": "finished", "killed": [], "finished": True}) == "nobody was killed"
    assert verdict({"ended": "timed out", "killed": [], "finished": False}) == "timed out before the kill"
    assert verdict({"ended": "failed", "killed": [1], "finished": True}) == "went on"
