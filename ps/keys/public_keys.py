"""PublicKeys: the half of somebody's keys that others may have, and the one line that they are written in."""

from __future__ import annotations

import hashlib
import re
from typing import Literal, get_args

from ps.dataclass import dataclass
from ps.errors import ConfigError

KeyRole = Literal["scheduler", "server", "worker", "client", "operator", "helper"]
"""What somebody may be. A client takes part in federated jobs only; an operator looks, and is no member of a job."""
ROLES: tuple[KeyRole, ...] = get_args(KeyRole)

WORD = "paramserver-key"
FORMAT = "1"
NONE = "-"
"""Stands for an identity where there is none."""

LONGEST = 400
"""Characters of a line, at most."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """A name, what its owner may be, a CURVE key (32 bytes) for connections and an Ed25519 key (32 bytes) to sign with.

    ``identity`` is None for keys that are made for one run.
    """

    name: str
    role: str
    curve: bytes
    identity: bytes | None = None

    @property
    def fingerprint(self) -> str:
        """What two people compare, over the telephone or on paper: 32 hexadecimal digits of a SHA-256 hash.

        It is over role and keys: whoever takes them in may give them a name of his own.
        """
        digits = hashlib.sha256(b"\0".join([self.role.encode(), self.curve, self.identity or b""])).hexdigest()
        return " ".join(digits[at : at + 4] for at in range(0, 32, 4))

    def line(self) -> str:
        """Return the line that ``parse`` reads."""
        identity = self.identity.hex() if self.identity else NONE
        return f"{WORD} {FORMAT} {self.name} {self.role} {self.curve.hex()} {identity}"

    def named(self, name: str) -> PublicKeys:
        """Return the same keys under another name. Raises ConfigError when that cannot be one."""
        return PublicKeys(check_name(name), self.role, self.curve, self.identity)


def check_name(name: str) -> str:
    """Return a name. Raises ConfigError when it could not be that of a file, or be told apart from others."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} is no name for keys: at most 64 letters, digits, dots, dashes and underscores"
        )
    return name


def check_role(role: str) -> str:
    """Return a role. Raises ConfigError when there is none of this name."""
    if role not in ROLES:
        raise ConfigError(f"{role[:80]!r} is no role; there are {', '.join(ROLES)}")
    return role


def parse(text: str) -> tuple[PublicKeys, ...]:
    """Return the keys in a file: one in each line that is not empty. Raises ConfigError, which says what is wrong."""
    found = tuple(_parse_line(line) for line in text.splitlines() if line.strip())
    if not found:
        raise ConfigError("it has no keys in it; it is to have a line as psctl keys new writes it")
    return found


def _parse_line(line: str) -> PublicKeys:
    words = line.split()
    if words[0] == "paramserver-private-keys":
        raise ConfigError("these are private keys, which stay where they are: send public.key instead")
    if len(line) > LONGEST or len(words) != 6 or words[0] != WORD:
        raise ConfigError(f"it is no line of public keys, which begins with {WORD}")
    _, number, name, role, curve, identity = words
    if number != FORMAT:
        raise ConfigError(f"it is of format {number[:20]}, and this version knows {FORMAT}")
    return PublicKeys(check_name(name), check_role(role), key_of(curve), None if identity == NONE else key_of(identity))


def key_of(text: str) -> bytes:
    """Return the 32 bytes that 64 hexadecimal digits stand for. Raises ConfigError."""
    if not _KEY.fullmatch(text):
        raise ConfigError("a key has 64 hexadecimal digits")
    return bytes.fromhex(text)
