"""The same thing has one name, and one name means one thing: no class of ``ps`` is called like another."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_class_is_called_like_another() -> None:
    places = defaultdict(list)
    for folder in ("ps", "protocol", "server", "worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.relative_to(ROOT).parts[:2] in (("ps", "protocol"), ("ps", "server"), ("ps", "worker")):
                continue  # links to what is looked through anyway
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 300, "the classes of a whole package"
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice == {}
