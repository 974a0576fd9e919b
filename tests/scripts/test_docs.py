"""Promises of the site: it is built from every document without a warning, and can be read without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_site_holds_every_document_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="needs the extra docs")
    sphinx = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run(
        [*sphinx, "-c", ROOT / "scripts" / "site", "-d", tmp_path / "trees", ROOT, tmp_path / "site"],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert built.returncode == 0, built.stderr
    for document in (*ROOT.glob("[a-z]*/README.md"), *ROOT.glob("scripts/**/README.md"), ROOT / "README.md"):
        page = tmp_path / "site" / document.relative_to(ROOT).with_suffix(".html")
        html = page.read_text()
        title = document.read_text().splitlines()[0].removeprefix("# ")
        assert title.replace("`", "").split(",")[0] in re.sub(r"<[^>]+>", "", html)
        assert not re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+", html), document
    reference = (tmp_path / "site" / "scripts" / "site" / "api.html").read_text()
    for name in ("ps.connect", "ps.KV.step", "ps.federated.Client", "ps.errors.GradientError"):
        assert f'id="{name}"' in reference, name
