"""Which modules draw numbers at random, as far as that can be known: of others nobody keeps the generator."""

from __future__ import annotations

import torch
from torch import nn

EXACT: frozenset[type[nn.Module]] = frozenset(
    (
        *(nn.Linear, nn.Bilinear, nn.Identity, nn.Flatten, nn.Unflatten, nn.Embedding, nn.Sequential, nn.ModuleList),
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.GLU),
        *(nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign),
        *(nn.Softmax, nn.LogSoftmax, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d),
        *(nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
    )
)
"""Classes, not those that are made of them, which give the same for the same whatever the generator's state is."""


def may_draw(module: torch.nn.Module) -> bool:
    """Whether a module may draw numbers: any of its parts is of a class that is not known, or has a hook."""
    return any(type(part) not in EXACT or part._forward_hooks or part._forward_pre_hooks for part in module.modules())
