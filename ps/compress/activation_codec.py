"""ActivationCodec: a codec for what goes from stage to stage, which remembers nothing."""

from __future__ import annotations

from typing import Protocol

from ps.compress.codec import Codec


class ActivationCodec(Codec, Protocol):
    """A codec without slots and state, all of whose frames are ``max_bytes`` long, and whose ``open`` needs no key."""

    @property
    def largest(self) -> float:
        """The largest magnitude that a frame has room for."""
