"""Devices: where a worker's arrays are, as torch calls it."""

from __future__ import annotations

import torch

from ps import xp
from ps.worker import KV


def device(kv: KV) -> torch.device:
    """Return the device that the worker computes on, for ``model.to(...)``: what ``--device`` says, by local rank.

    It is a GPU where CuPy is installed and sees one. ``kv.batches`` yields arrays that lie there, of which
    ``torch.as_tensor`` makes tensors over the same memory. Without CuPy a model may be on a GPU all the same: its
    gradients and weights are copied from and to the host.
    """
    return as_torch(kv.device)


def as_torch(device: xp.Device) -> torch.device:
    """Return torch's device for one of ours."""
    return torch.device("cpu") if device.backend is xp.NUMPY else torch.device("cuda", device.index)
