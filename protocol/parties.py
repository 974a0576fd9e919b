"""Parties: who a process is to others under masks, and whom it counts: by its own folder of keys, and no other list."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.keys.key_folder import FRESH, KeyFolder, mark_of
from ps.loopback import is_loopback
from ps.secure.identity import Lists, Signer, ThrowawaySigner, anybody

CLIENTS = ("client", "worker")


@dataclass(frozen=True, slots=True)
class Parties:
    """A process's identity, the clients that it counts, and whom it takes for a helper."""

    signer: Signer
    clients: Lists
    helpers: Lists


class _FolderSigner:
    """The identity of a folder of keys."""

    def __init__(self, folder: KeyFolder) -> None:
        assert folder.own.public.identity is not None
        self._own = folder.own
        self.public = folder.own.public.identity

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return self._own.sign(message)


def parties(folder: KeyFolder | None, scheduler: str) -> Parties:
    """Return the parties of a process with these keys; who is looked up is looked for in the folder as it is then.

    Without keys, or with those that were made for one run, it makes itself an identity and counts everybody. Raises
    ConfigError for none where the ``scheduler`` is not on this host.
    """
    signs = folder is not None and folder.own.public.identity is not None
    if not signs and not is_loopback(urlsplit(scheduler).hostname or "", resolve=True):
        raise ConfigError(
            f"--secure with a scheduler at {scheduler} needs keys: without a list of its own a client would count "
            f"whoever the operator adds. Make some (psctl keys new DIR), list the others' (psctl keys add), give --keys"
        )
    if folder is None or not signs:
        return Parties(ThrowawaySigner(), anybody, anybody)
    return Parties(_FolderSigner(folder), _Listed(folder.path, *CLIENTS), _Listed(folder.path, "helper"))


class _Listed:
    """Whom a folder lists for some roles, as it is now: it is read again once it was changed."""

    def __init__(self, path: Path, *roles: str) -> None:
        self._path, self._roles = path, roles
        self._mark: tuple[int, ...] = ()
        self._identities: frozenset[bytes | None] = frozenset()

    def __call__(self, public: bytes) -> bool:
        mark = mark_of(self._path)
        if mark != self._mark or time.time_ns() - mark[0] <= FRESH:
            self._identities = frozenset(each.identity for each in KeyFolder.read(self._path).of_role(*self._roles))
            self._mark = mark
        return public in self._identities
