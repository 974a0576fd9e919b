"""PrivateKeys: what a process proves with who it is. Made where it is used, in one file, which never travels."""

from __future__ import annotations

import zmq
from zmq.utils import z85

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.keys.public_keys import NONE, PublicKeys, check_name, check_role, key_of

WORD = "paramserver-private-keys"
FORMAT = "1"


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKeys:
    """The secret halves, 32 bytes each, beside the public ones."""

    public: PublicKeys
    curve: bytes
    identity: bytes | None = None

    def __repr__(self) -> str:
        return f"PrivateKeys({self.public.name}, {self.public.role})"  # nothing that a log must not have

    def text(self) -> str:
        """Return what ``parse`` reads."""
        own = self.public
        rows = {WORD: FORMAT, "name": own.name, "role": own.role, "curve": self.curve.hex(), "public": own.curve.hex()}
        rows["identity"] = self.identity.hex() if self.identity else NONE
        rows["public-identity"] = own.identity.hex() if own.identity else NONE
        return "".join(f"{name} {value}\n" for name, value in rows.items())

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature (64 bytes) of ``data`` by this identity. Raises ConfigError without one."""
        if self.identity is None:
            raise ConfigError(f"the keys of {self.public.name} were made for one run and sign nothing: psctl keys new")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.identity).sign(data)


def generate(name: str, role: str, *, signing: bool = True) -> PrivateKeys:
    """Return new keys from the operating system's randomness. Without ``signing`` they are for connections only."""
    check_name(name)
    check_role(role)
    public, secret = map(z85.decode, zmq.curve_keypair())
    if not signing:
        return PrivateKeys(PublicKeys(name, role, public), secret)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return PrivateKeys(
        PublicKeys(name, role, public, key.public_key().public_bytes_raw()), secret, key.private_bytes_raw()
    )


def parse(text: str) -> PrivateKeys:
    """Return the keys that ``text`` wrote. Raises ConfigError, without anything of what is in it."""
    rows = dict(line.split(" ", 1) for line in text.splitlines() if line.count(" ") == 1)
    if rows.get(WORD) != FORMAT:
        raise ConfigError(f"these are no private keys of format {FORMAT}: psctl keys new makes them")
    try:
        identity, public_identity = (
            None if rows[n] == NONE else key_of(rows[n]) for n in ("identity", "public-identity")
        )
        public = PublicKeys(check_name(rows["name"]), check_role(rows["role"]), key_of(rows["public"]), public_identity)
        curve = key_of(rows["curve"])
    except KeyError as lacking:
        raise ConfigError(f"it lacks {lacking}") from None
    if z85.decode(zmq.curve_public(z85.encode(curve))) != public.curve or (identity is None) != (
        public_identity is None
    ):
        raise ConfigError("its secret and its public half do not belong together")
    return PrivateKeys(public, curve, identity)
