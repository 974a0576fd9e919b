"""Alone: when a server gives up because no worker is left and no scheduler is there to say that the job is over."""

from __future__ import annotations

from ps.config.job import JobConfig
from ps.errors import PeerLost
from ps.protocol.membership import Membership
from ps.server.shard.shard import Shard

PATIENCE = 10
"""Start time-outs for which a server without workers waits for a silent scheduler; they may stand in a barrier."""


def demand_company(shard: Shard | None, membership: Membership, scheduler: str, visited: float, now: float) -> None:
    """Raise PeerLost for a server that is alone; ``visited``: when a worker of the job was last heard.

    Workers that were killed say no goodbye, and only a scheduler could declare them dead: their silence must do.
    """
    job = shard.job if shard is not None else JobConfig()
    limit = PATIENCE * job.start_timeout
    if shard is None or shard.deserted:
        # who stands in a barrier has given up by then, and who was killed is replaced
        limit = max(2 * job.start_timeout, job.idle_timeout)
    if membership.welcome is None or not (shard is None or shard.deserted or now - visited > limit):
        return
    if membership.unknown:
        raise PeerLost(
            f"the scheduler at {scheduler} was restarted without its --state file and does not know this "
            f"server, and no worker is left. Start the job anew"
        )
    if membership.silence(now) > limit:
        raise PeerLost(
            f"no worker is left, and the scheduler at {scheduler}, which would end the job, has been "
            f"silent for {membership.silence(now):.0f} s"
        )
