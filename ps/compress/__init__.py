"""Compression: pure functions between the vector of one chunk and a frame of bytes, on NumPy and CuPy."""

from ps.compress.activation_codec import ActivationCodec
from ps.compress.codec import Codec
from ps.compress.decoded import Decoded
from ps.compress.downlink import Downlink
from ps.compress.key import DOWN, Key
from ps.compress.registry import ACTIVATION_CODECS, CODECS
from ps.compress.uplink import Uplink

__all__ = ["ACTIVATION_CODECS", "CODECS", "DOWN", "ActivationCodec", "Codec", "Decoded", "Downlink", "Key", "Uplink"]
