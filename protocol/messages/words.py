"""Words: what the fields of messages may say that programs act on. No other word gets through decoding.

Only codes do: an Error is read in every version, and another may have more of them; and whoever hears that a job has
failed is to end, whatever the word for it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from ps.keys.public_keys import KeyRole as KeyRole
from ps.protocol.ranges import AtMost

MOST_CODE = 40
"""Characters of a code."""

MemberRole = Literal["server", "worker"]
ProcessRole = Literal["scheduler", "server", "worker"]
JobPhase = Literal["waiting", "running", "ended", "failed"]
FailureCode = Annotated[Literal["", "no-worker", "server-lost", "timeout", "unsaved"], AtMost(MOST_CODE)]
"""Why a job has failed, by this version's words or another's; nothing while it has not."""

StopPhase = Literal["", "asked", "decided"]
"""Whether training is to end before all is done; asked: where is not decided yet."""

ErrorCode = Annotated[
    Literal[
        "another-job", "bad-message", "busy", "config", "ended", "evicted", "layout", "memory", "over", "rank-taken"
    ]
    | Literal["key", "server-lost", "shm", "stranger", "token", "unknown", "version"],
    AtMost(MOST_CODE),
]
"""What went wrong, by this version's words or another's."""

OrderPhase = Literal["collect", "measure", "sum", "prepare", "publish"]
"""How far a round may go."""
ShardPhase = Literal["empty", "collect", "summed", "prepared", "broken", "mismatch"]
"""How far a server is with a round: it has no model yet, collects, has the sum of what is masked on disk, has prepared,
or has lost what it had counted; or the sum of what was masked is none: somebody used another seed, round, codec or
mask."""

Defect = Literal["", "malformed", "nan"]
"""What is wrong with an upload in itself; nothing if it is sound."""
Refusal = (
    Literal["claim", "malformed", "nan", "norm"]
    | Literal["abandoned", "declined", "late", "spare", "stale", "unfinished", "vanished"]
)
"""Why a contribution does not count: it is wrong in itself, or came of a task that came to nothing."""
Ruling = Literal["accepted", "resume", "token"] | Refusal
"""What a client is told of its contribution; ``resume``: upload again what a server has lost, and submit again;
``token``: the task is not the one that it was given."""

OrderedCut = Literal["ask", "mark", "drop", "done", "reached", "last"]
"""What a member is to do for a checkpoint. reached: all servers have come to its clock; last: no other one comes."""
CUT_OVER = ("drop", "done", "last")
"""Those of them after which nothing is left to be done for that checkpoint."""
PartState = Literal["here", "marked", "late", "written", "failed"]
"""How far a member is with its part of a checkpoint; late: it is beyond the clock of it, and had to be asked before."""

TransferKind = Literal["activation", "gradient", "labels", "loss", "outputs", "plan", "tied"]
"""What goes from stage to stage of a pipeline; ``plan``: what all its workers know of a step before it begins."""

MoveState = Literal["moving", "done", "lost"]
"""How far a server is with chunks that it is to hand over."""
Arrival = Literal["full", "unshared", "taken", "held"]
"""What a server says of a chunk that is handed over to it."""
LeaseWait = Literal["no", "here", "aside", "back"]
"""How a worker that asks for batches waits for them; back: it wants none, and gives back what it has."""
LeaseState = Literal["cells", "none", "end", "aside"]
"""What a worker is told that has asked for batches."""

ReplicaChange = Literal["none", "whole", "step", "combined", "scaled"]
"""How a chunk's arrays have changed with a record for the standby of its server."""
