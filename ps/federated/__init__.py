"""Federated clients made of two functions, for programs of any kind; scripts only need --mode federated."""

from ps.worker.federated.client import Client, Round

__all__ = ["Client", "Round"]
