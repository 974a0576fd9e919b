"""How a job's model is cut, by where those are that it begins with, and what of it holds for who comes later."""

from __future__ import annotations

from collections.abc import Iterable

from ps.config.cut import CUT, cut_for_links, cut_for_memory
from ps.config.job import JobConfig
from ps.config.transport import shares_memory
from ps.protocol import pid
from ps.server.scheduler.member_record import MemberRecord


def cut_for_members(job: JobConfig, members: Iterable[MemberRecord]) -> JobConfig:
    """Return the settings with which a job begins: unless somebody has said so, it is cut for where its members are."""
    found = list(members)
    if not all(record.here for record in found):
        return cut_for_links(job)
    return cut_for_memory(job) if can_share(found) else job


def can_share(members: Iterable[MemberRecord]) -> bool:
    """Whether processes of this host can share memory, as far as can be known before they have tried to.

    All servers offer to, and nobody is in a container of its own, with other files. One may still lack the
    memory or the rights: then its tensors travel, in chunks that are larger than they need to be.
    """
    found = list(members)
    realms = {pid.realm_of(record.mark) for record in found}
    offers = (record.addresses for record in found if record.role == "server")
    return len(realms) == 1 and "" not in realms and all(any(map(_is_of_memory, addresses)) for addresses in offers)


def as_cut(theirs: JobConfig, job: JobConfig) -> JobConfig:
    """Return the settings that one who comes later asks for, cut as the job is if they say nothing of that."""
    decided = (cut_for_links(theirs), cut_for_memory(theirs))
    return next((each for each in decided if _cut(each) == _cut(job)), theirs)


def first_difference(theirs: JobConfig, job: JobConfig) -> str:
    """Return the first setting in which two jobs differ; one that the cut may follow from before the cut itself."""
    ours, wants = job.to_dict(), theirs.to_dict()
    return min((key for key in ours if ours[key] != wants[key]), key=_place)


def _place(name: str) -> int:
    return 1 + CUT.index(name) if name in CUT else 0


def _cut(job: JobConfig) -> list[int | None]:
    return [getattr(job, name) for name in CUT]


def _is_of_memory(address: str) -> bool:
    return shares_memory(address.partition("://")[0])
