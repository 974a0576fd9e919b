"""Every error that ps raises, and the exit code a process ends with because of it.

    PSError                     1
    ├── UsageError              2   a wrong call, flag, key or file
    │   ├── ConfigError         2   a setting that is unknown, malformed or contradictory
    │   ├── StateError          2   a right call at the wrong time (push before init, unknown handle)
    │   └── DataError           2   data that cannot be loaded or divided as asked
    ├── JobEnded                0   the job has ended in good order before this process could join it
    ├── ConnectTimeout          3   nobody answered at an address, or the job never became complete
    ├── PeerLost                4   a member this process cannot go on without is gone
    │   ├── ServerLost          4
    │   ├── ServersMoved        4   a federated job's server was replaced; its clients connect anew
    │   ├── ReplicaDiverged     4   a standby's copy of a server is not what the server has, or lacks some of it
    │   └── Evicted             4   the others declared *this* process dead
    ├── AddressInUse            5   the port or path is taken
    ├── ProtocolError           6   bytes that break the protocol
    │   ├── VersionMismatch     6   the peer speaks another version
    │   └── BadMessage          6   a header or frame that does not hold together
    ├── Refused                 7   the scheduler or a server said no
    │   ├── LayoutMismatch      7   workers disagree about the model's tensors
    │   └── Unshared            7   two processes cannot share memory, and nothing else was allowed
    ├── GradientError           8   NaN or Inf, wrong shape, wrong dtype, missing or unknown tensor
    ├── UnsavedModel            9   the trained model could not be written to its file
    │   └── CheckpointError     9   nor a checkpoint, or what there is of one is damaged
    ├── KeyRefused             10   a key was refused: this process's by another, or another's by this one
    └── BudgetSpent            11   the privacy budget ended the rounds before their number

    SystemExit
    └── TrainingStopped         0   a step was begun after kv.stop had ended training

A training script's own exception ends its worker with 1; Ctrl-C with 130; SIGTERM with 143.
"""

from __future__ import annotations


class PSError(Exception):
    """Base of all errors raised by ps."""

    exit_code = 1


class UsageError(PSError):
    """A wrong call, flag, key or file."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, malformed or contradicts another."""


class StateError(UsageError):
    """The call is right, the moment is wrong."""


class DataError(UsageError):
    """The data cannot be loaded or divided as asked."""


class JobEnded(PSError):
    """The job has ended in good order; there is nothing left to do."""

    exit_code = 0


class ConnectTimeout(PSError):
    """Nobody answered in time."""

    exit_code = 3


class PeerLost(PSError):
    """A member that this process needs is gone."""

    exit_code = 4


class ServerLost(PeerLost):
    """A server died and its shard with it."""


class ServersMoved(PeerLost):
    """A server of a federated job was replaced by another process; its clients connect anew."""


class ReplicaDiverged(PeerLost):
    """A standby's copy of a server's part of the model is not what that server has."""


class Evicted(PeerLost):
    """The other members declared this process dead and go on without it."""


class AddressInUse(PSError):
    """The port or path to listen on is taken."""

    exit_code = 5


class ProtocolError(PSError):
    """Received bytes break the protocol; the peer is to blame."""

    exit_code = 6
    reason = "refused"
    """The kind of error without its particulars, by which what was dropped is counted."""


class VersionMismatch(ProtocolError):
    """The peer speaks another version of the protocol."""

    reason = "version"


class BadMessage(ProtocolError):
    """A header or frame does not hold together."""

    def __init__(self, text: str = "", reason: str = "refused") -> None:
        super().__init__(text)
        self.reason = reason


class Refused(PSError):
    """The scheduler or a server said no."""

    exit_code = 7


class LayoutMismatch(Refused):
    """Two workers disagree about the names, shapes or dtypes of the model's tensors."""


class Unshared(Refused):
    """Two processes cannot share memory; where that is not demanded another transport is taken."""


class GradientError(PSError):
    """A gradient is NaN or Inf, or does not fit the model's tensor of that name."""

    exit_code = 8


class UnsavedModel(PSError):
    """The model could not be written to its file."""

    exit_code = 9


class CheckpointError(UnsavedModel):
    """A checkpoint could not be written, or is damaged; or another run has the folder by now."""


class BudgetSpent(PSError):
    """The privacy budget was spent before all rounds were done."""

    exit_code = 11


class KeyRefused(PSError):
    """This process's key was refused by a peer, or a peer does not have the key that is listed for it."""

    exit_code = 10


class TrainingStopped(SystemExit):
    """A script goes on with steps although training has ended, by ``kv.stop``: its ``with`` block ends here.

    Not an error: what ends with it ends in good order. A loop of one's own that looks at ``kv.stopped`` never sees it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()  # the code that a process ends with is 0
        self.args = (text,)
