"""Fixtures of the tests of models in PyTorch, which are skipped where it is not installed."""

from __future__ import annotations

import contextlib

from support.fixtures import local as local
from support.fixtures import loopback as loopback

with contextlib.suppress(ImportError):
    import torch

    torch.set_num_threads(1)  # the workers of a test are threads of one process, and would wait for each other
