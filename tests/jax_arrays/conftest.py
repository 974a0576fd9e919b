"""Fixtures of the tests of models in JAX, which are skipped where it is not installed."""

from support.fixtures import local as local
from support.fixtures import loopback as loopback
