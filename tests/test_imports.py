"""Promise of the modules: no two of ``ps`` import each other, not through others and not inside a function either.

import-linter holds the order of the rooms; this holds it within them. What is imported for annotations alone, under
TYPE_CHECKING, does not count: nothing ever follows it, and a class may well name the type of whoever makes it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules(root: Path, package: str) -> dict[str, Path]:
    """Return the modules below a folder, through its links, by their dotted names."""
    found = {}
    for path in sorted(root.iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            found |= modules(path, f"{package}.{path.name}")
        elif path.suffix == ".py":
            found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield what a module imports, wherever it does, but for annotations."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from statements(other)
        else:
            yield from statements(child)


def graph(known: dict[str, str]) -> dict[str, set[str]]:
    """Return for each module, given by its text, the others that it imports."""
    edges: dict[str, set[str]] = {}
    for name, text in known.items():
        named: set[str] = set()
        for found in statements(ast.parse(text)):
            if isinstance(found, ast.Import):
                named |= {alias.name for alias in found.names}
            elif found.module and not found.level:
                for alias in found.names:
                    inner = f"{found.module}.{alias.name}"
                    named.add(inner if inner in known else found.module)
        edges[name] = {other for other in named if other in known and other != name}
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle in their order, or nothing where there is none."""
    done: set[str] = set()
    for start in sorted(edges):
        path, stack = [start], [iter(sorted(edges[start]))]
        while stack and start not in done:
            following = next(stack[-1], None)
            if following is None:
                done.add(path.pop())
                stack.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                stack.append(iter(sorted(edges[following])))
    return []


def test_no_module_imports_one_that_imports_it() -> None:
    found = {name: path.read_text() for name, path in modules(ROOT / "ps", "ps").items()}
    assert {"ps.config.job", "ps.server.shard.chunk", "ps.worker.kv", "ps.protocol.codec"} <= found.keys()
    assert not circle(graph(found)), " imports ".join(circle(graph(found)))


def test_a_circle_is_found_wherever_it_is_closed() -> None:
    lazy = {"a": "import b", "b": "def f():\n    from c import d", "c": "if x:\n    import a", "e": "import a"}
    assert circle(graph(lazy)) == ["a", "b", "c", "a"]
    annotations = {**lazy, "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a"}
    assert circle(graph(annotations)) == []
