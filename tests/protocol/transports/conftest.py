"""What the tests of transports ask for."""

from __future__ import annotations

from support.fixtures import desk as desk
from support.fixtures import fake as fake
from support.fixtures import loopback as loopback
