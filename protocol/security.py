"""Security: the keys of this process, whom they let in, and where it may listen without any."""

from __future__ import annotations

import logging
import os
import time

from ps.config.process import ProcessConfig
from ps.errors import ConfigError
from ps.keys import local_run
from ps.keys.key_folder import FRESH, KeyFolder, mark_of
from ps.keys.private_keys import PrivateKeys
from ps.keys.public_keys import PublicKeys
from ps.loopback import is_loopback
from ps.protocol.addresses import with_key
from ps.protocol.guest_list import GuestList

log = logging.getLogger("ps.keys")

LOOK = 0.3
"""Seconds between looks at whether the folder was changed."""


class Security:
    """How the sockets of a process are protected. Belongs to the thread that calls ``refresh``."""

    def __init__(self, folder: KeyFolder | None = None, *, insecure: bool = False) -> None:
        self.folder = folder
        self.own: PrivateKeys | None = folder.own if folder else None
        self.insecure = insecure
        self.admission = GuestList()
        self._looked = 0.0
        self._seen: tuple[int, ...] = (0,)  # it may have been another folder when it was read
        self._said = ""

    @staticmethod
    def of(process: ProcessConfig, role: str = "") -> Security:
        """Return what a process was given: ``--keys``, or those of a run on this host. Raises ConfigError.

        ``role``: what it is, where it may not have others' keys.
        """
        path = process.keys
        if path is None and not process.insecure:
            ours = (
                f"tcp://127.0.0.1:{process.port}"
                if role == "scheduler" and is_loopback(process.host, resolve=True)
                else ""
            )
            path = local_run.folder_of(process.scheduler or ours, role)
        folder = KeyFolder.read(path) if path else None
        if folder is not None and role and folder.own.public.role not in _KEYS_OF.get(role, (role,)):
            raise ConfigError(
                f"the keys in {folder.path} are those of a {folder.own.public.role}, and this is a {role}: give it "
                f"keys of its own (psctl keys new DIR --role {role})"
            )
        return Security(folder, insecure=process.insecure)

    @staticmethod
    def to_ask(address: str, keys: str | None) -> Security:
        """Return what somebody has who is no member and asks a process at an address. Raises ConfigError.

        ``keys``: a folder; None: that of PS_KEYS, or of the run on this host whose scheduler is at the address.
        """
        path = keys or os.environ.get("PS_KEYS") or local_run.folder_of(address, "operator")
        return Security(KeyFolder.read(path) if path else None)

    def expected(self, *roles: str) -> list[bytes]:
        """Return the keys that whoever has one of these roles may have; while they are replaced, several."""
        return [each.curve for each in self.folder.of_role(*roles)] if self.folder else []

    def may_be_asked(self) -> list[bytes]:
        """Return the keys that a process may have that is asked something: a scheduler, a server, this one itself."""
        own = self.own.public if self.own else None
        mine = [own.curve] if own is not None and own.role in ("scheduler", "server") else []
        return [*mine, *self.expected("scheduler"), *self.expected("server")]

    def told(self, address: str) -> str:
        """Return an address of this process as others are told of it, with the key that they are to find there."""
        return with_key(address, self.own.public.curve if self.own else None)

    def demand_loopback(self, host: str) -> None:
        """Raise ConfigError where others could reach an address of a process that lets everybody in."""
        if self.own is not None or self.insecure or is_loopback(host, resolve=True):
            return
        raise ConfigError(
            f"without keys this process listens on loopback only, not on {host}: whoever reaches it could read and "
            f"change everything. Give --keys DIR (psctl keys --help), or --insecure on a network where all are trusted"
        )

    def admit_listed(self, more: tuple[PublicKeys, ...] = (), revoked: frozenset[bytes] = frozenset()) -> set[str]:
        """Let in whom the folder lists and these; return who is let in no more."""
        if self.folder is None or self.own is None:
            return set()
        return self.admission.admit([*more, *self.folder.everybody, self.own.public], revoked | self.folder.revoked)

    def refresh(self) -> bool:
        """Read the folder again if it was changed, now and then; return whether it is another one now.

        What cannot be read is told, and the list stays as it was.
        """
        if self.folder is None or (now := time.monotonic()) - self._looked < LOOK:
            return False
        self._looked = now
        mark = mark_of(self.folder.path)
        if mark == self._seen and time.time_ns() - mark[0] > FRESH:
            return False
        self._seen = mark
        try:
            found = KeyFolder.read(self.folder.path)
        except ConfigError as error:
            if str(error) != self._said:
                self._said = str(error)
                log.error("the keys are kept as they were: %s", error)
            return False
        self._said = ""
        before, self.folder = self.folder, found
        return (before.listed, before.revoked) != (found.listed, found.revoked)


_KEYS_OF = {"worker": ("worker", "client")}
"""What the keys of a process may be for, where it is not what its role is called."""


OPEN = Security()
"""Without keys: loopback only."""
