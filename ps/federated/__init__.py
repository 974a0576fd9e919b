"""Federated clients made of two functions, for programs of any kind; scripts only need --mode federated."""

from ps.worker.federated.client import Client
from ps.worker.federated.fit import Round

__all__ = ["Client", "Round"]
