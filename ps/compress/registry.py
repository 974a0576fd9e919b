"""The codecs, one line each."""

from __future__ import annotations

from ps.compress.activation_codec import ActivationCodec
from ps.compress.bf16 import BF16
from ps.compress.codec import Codec
from ps.compress.fp16 import FP16
from ps.compress.identity import Identity
from ps.compress.int8 import Int8
from ps.compress.onebit import OneBit
from ps.compress.powersgd import PowerSGD
from ps.compress.randomk import RandomK
from ps.compress.topk import TopK
from ps.spec import Registry

CODECS: Registry[Codec] = Registry(
    "compress",
    {
        "bf16": BF16,
        "fp16": FP16,
        "int8": Int8,
        "none": Identity,
        "onebit": OneBit,
        "powersgd": PowerSGD,
        "randomk": RandomK,
        "topk": TopK,
    },
    interface=Codec,
)

ACTIVATION_CODECS: Registry[ActivationCodec] = Registry(
    "compress_activations",
    {"bf16": BF16, "fp16": FP16, "int8": Int8, "none": Identity},
    interface=ActivationCodec,
    pluggable=False,
)
