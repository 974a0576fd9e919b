"""Doorkeeper: whom a scheduler lets in, what their keys let them be, and the end of those whose key was revoked."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ps.config.process import ProcessConfig
from ps.dataclass import dataclass
from ps.keys.public_keys import PublicKeys
from ps.protocol.addresses import split_key
from ps.protocol.guarded_context import GuardedContext
from ps.protocol.key_list import key_list
from ps.protocol.messages import Error, Hello, Identify, Keys, KeysRequest, Message
from ps.protocol.security import Security
from ps.server.scheduler.member_record import LIVE, MemberRecord
from ps.server.scheduler.state import SchedulerState

log = logging.getLogger("ps.scheduler")

PATIENCE = 0.7
"""Seconds for which an unknown key is not refused: it may have been listed just now."""
_MAY_BE = {"server": ("server",), "worker": ("worker", "client")}


@dataclass(frozen=True, slots=True)
class Change:
    """Another list: the live members whose keys are let in no more, what servers are told, and whether any is to go."""

    revoked: list[MemberRecord]
    keys: Keys | None
    cuts: bool


class Doorkeeper:
    """Of one scheduler. Without keys everybody who reaches it gets in."""

    def __init__(self, process: ProcessConfig) -> None:
        """Read the keys. Raises ConfigError."""
        self._security = Security.of(process, "scheduler")
        self._security.admission.patience = PATIENCE
        self._security.admit_listed()
        self._list = self._make_list()
        self._looked = False

    def open_context(self) -> GuardedContext:
        """Return the context for this scheduler's sockets."""
        return GuardedContext.of(self._security)

    @property
    def keys(self) -> Keys | None:
        """Whom servers are to let in; None without keys."""
        return self._list

    def _make_list(self) -> Keys | None:
        folder = self._security.folder
        if folder is None:
            return None
        return key_list([*folder.everybody, folder.own.public], folder.revoked)

    def answer(self, message: KeysRequest) -> Keys | None:
        """Return the list for a server that has another one."""
        return self._list if self._list is not None and self._list.digest != message.digest else None

    def refusal(self, message: Message, speaker: PublicKeys | None, state: SchedulerState) -> Error | None:
        """Return why somebody may not say this with its key; None without keys, or if it may."""
        if speaker is None:
            return None
        why = _not_its_key(message, speaker) or _not_its_role(message, speaker, state)
        if isinstance(message, Hello | Identify):
            record = (
                state.roster.known(message.nonce) if isinstance(message, Hello) else state.members.get(message.member)
            )
            if record is not None and (record.key or speaker.curve.hex()) != speaker.curve.hex():
                why = f"{record} came with another key than that of {speaker.name}"
        return Error(getattr(message, "request", 0), "key", why) if why else None

    def seat(self, record: MemberRecord, speaker: PublicKeys | None, state: SchedulerState) -> None:
        """Bind a member to the key that it has come with."""
        if speaker is not None and not record.key:
            record.key, state.changed = speaker.curve.hex(), True

    def look(self, state: SchedulerState) -> Change | None:
        """Return what has changed, if anything has; at first, whom a scheduler that was here before had let in."""
        if self._security.own is None:
            return None
        gone: set[str] = set()
        if self._security.refresh():
            gone = self._security.admit_listed()
            self._list = self._make_list()
            log.info("the keys were changed: %d are let in no more", len(gone))
        elif self._looked:
            return None
        self._looked = True
        return Change(list(self._barred(state)), self._list, bool(gone))

    def _barred(self, state: SchedulerState) -> Iterator[MemberRecord]:
        for record in state.members.values():
            if record.state == LIVE and record.key and self._security.admission.find(record.key) is None:
                yield record


def _not_its_key(message: Message, speaker: PublicKeys) -> str:
    for address in getattr(message, "addresses", ()):
        if address.startswith("tcp://") and split_key(address)[1] != speaker.curve:
            return f"the address {split_key(address)[0]} is told without the key of {speaker.name}, who tells it"
    return ""


def _not_its_role(message: Message, speaker: PublicKeys, state: SchedulerState) -> str:
    if isinstance(message, Hello):
        role = message.role
    elif isinstance(message, Identify) and (record := state.members.get(message.member)) is not None:
        role = record.role
    else:
        return ""
    if speaker.role not in _MAY_BE[role]:
        return f"{speaker.name} has the key of a {speaker.role}, and cannot be a {role} with it"
    if speaker.role == "client" and isinstance(message, Hello) and _mode(message, state) != "federated":
        return f"{speaker.name} has the key of a client, which takes part in federated jobs only: --mode federated"
    return ""


def _mode(hello: Hello, state: SchedulerState) -> str:
    return str(state.job.mode if state.job else state.explicit.get("mode") or hello.script.get("mode") or "sync")
