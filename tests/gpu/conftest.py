"""Fixtures for tests that need a CUDA device."""

from __future__ import annotations

import os

from support.fixtures import local as local
from support.fixtures import loopback as loopback

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take three quarters of the device's memory
