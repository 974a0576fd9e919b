"""Compression: pure functions between the vector of one chunk and a frame of bytes, on NumPy and CuPy."""

from ps.compress.codec import Codec
from ps.compress.decoded import Decoded
from ps.compress.downlink import Downlink
from ps.compress.key import DOWN, Key
from ps.compress.registry import CODECS
from ps.compress.uplink import Uplink

__all__ = ["CODECS", "DOWN", "Codec", "Decoded", "Downlink", "Key", "Uplink"]
