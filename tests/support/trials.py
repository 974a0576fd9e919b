"""The scripts of ``scripts/engines``, whose trials tests run: they are no modules by their names."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType

from support.cluster import ROOT


def trials(name: str) -> ModuleType:
    """Return a script as a module."""
    loader = SourceFileLoader(f"{name}_trials", str(ROOT / "scripts" / "engines" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module
