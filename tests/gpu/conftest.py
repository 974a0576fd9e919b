"""Fixtures for tests that need a CUDA device."""

from __future__ import annotations

import contextlib
import os

from support.fixtures import local as local
from support.fixtures import loopback as loopback

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take three quarters of the device's memory

with contextlib.suppress(ImportError):
    import torch

    torch.set_num_threads(1)  # the workers of a test are threads of one process, and would wait for each other
