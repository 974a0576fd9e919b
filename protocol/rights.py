"""Rights: who may say what to whom, by the role of its key. What is not named here nobody may."""

from __future__ import annotations

from ps.protocol import messages as m
from ps.protocol.messages import Message
from ps.protocol.messages.words import ProcessRole

_MEMBER = {m.Hello, m.Identify, m.Heartbeat, m.Leave}
_LOOKS = {m.StatusRequest}
_FOLLOWS = {m.FollowRequest, m.Mark, m.Peek, m.Received}
_TRAINS = {m.InitRequest, m.InitDone, m.BarrierEnter, m.StopRequest, m.StopReady}
_READS = {m.LeaseRequest}
_TO_SERVERS = {
    m.Attach,
    m.Start,
    m.Suspend,
    m.Init,
    m.InitChunk,
    m.InitMaster,
    m.Inquire,
    m.Pull,
    m.PullInPlace,
    m.Share,
    m.SharePart,
}
_PUSHES = {m.ContributorsRequest, m.Push, m.PartialPush, m.Scale, m.Skip, m.Veto, m.HeldRequest, m.Keep, m.Recall}
_ROUNDS = {m.Poll, m.Submit, m.Decline, m.Upload, m.Resume}
_MASKS = {m.KeyOffer, m.KeyShares, m.Consent, m.Reveal}
_STAGES = {m.Rendezvous, m.CutRequest}
_ORDERS = {m.CheckpointRequest, m.DrainRequest}
_MOVES = {m.Introduce, m.ChunkBegin, m.ChunkPart, m.ChunkLayout, m.ChunkGrant, m.ChunkAnswer}
_LINES = {m.Introduce, m.CreditRequest, m.SharedTransfer, m.TransferPart, m.ShareBuffer}

TO_SCHEDULER: dict[str, set[type[Message]]] = {
    "server": _MEMBER
    | _LOOKS
    | {m.RoundStatus, m.Distances, m.KeysRequest, m.CheckpointPart, m.MoveReport}
    | {m.ReplicaReady},
    "worker": _MEMBER | _LOOKS | _FOLLOWS | _TRAINS | _ROUNDS | _MASKS | _STAGES | _READS | {m.CheckpointPart},
    "client": _MEMBER | _TRAINS | _ROUNDS | _MASKS,
    "operator": _LOOKS | _FOLLOWS | _ORDERS,
    "scheduler": _LOOKS | _FOLLOWS | _ORDERS,
    "helper": {m.FollowRequest, m.HelpRequest},
}
TO_SERVER: dict[str, set[type[Message]]] = {
    "worker": {m.Identify} | _TO_SERVERS | _PUSHES | _ROUNDS | _FOLLOWS,
    "client": {m.Identify} | _TO_SERVERS | _ROUNDS,
    "operator": _FOLLOWS,
    "scheduler": _FOLLOWS,
    "server": _MOVES | {m.Identify, m.Share, m.ReplicaRequest, m.ReplicaAck},
    "helper": {m.MaskSum},
}
TO_WORKER: dict[str, set[type[Message]]] = {"worker": _LINES}

_TABLES = {"scheduler": TO_SCHEDULER, "server": TO_SERVER, "worker": TO_WORKER}


def may(role: str, listener: ProcessRole, kind: type[Message]) -> bool:
    """Whether somebody with a key of this role may say such a message to a process. A Ping is everybody's."""
    return role == "local" or kind in _TABLES[listener].get(role, ()) or kind in (m.Ping, m.Error)
