"""Promises of what is rendered: it is what was looked at, and a setting's words never become anything else."""

from __future__ import annotations

from pathlib import Path

from support.rendered import goldens

GOLDEN = Path(__file__).parent / "golden"


def test_what_is_rendered_is_what_was_looked_at() -> None:
    kept = {str(path.relative_to(GOLDEN)): path.read_text() for path in GOLDEN.rglob("*") if path.is_file()}
    found = goldens()
    assert found.keys() == kept.keys()
    for name, text in found.items():
        assert text == kept[name], f"{name}: python tests/engines/pin_golden.py, and look at the difference"
