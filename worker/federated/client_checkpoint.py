"""ClientCheckpoint: what a client knows that nobody else does, on disk if it is given a file.

That is error feedback, control variates, the local optimizer's state, a delta that is trained and not delivered, and
where deltas are masked, in which sums this client has been.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps import xp
from ps.errors import ConfigError
from ps.secure.sums import SumHistory
from ps.state_file import StateFile
from ps.worker.federated.delta_encoder import DeltaEncoder
from ps.worker.federated.participation import PendingUpload
from ps.worker.federated.training import Training
from ps.xp import HostArray

NAME, SUMS = "client", "sums"


def kept_rank(state_file: StateFile) -> int | None:
    """Return the rank of the client that a state file is of, if it knows."""
    owner = (state_file.glance(NAME) or {}).get("owner")
    rank = owner.get("rank") if isinstance(owner, dict) else None
    return rank if isinstance(rank, int) and rank >= 0 else None


def kept_sums(state_file: StateFile, job_id: str) -> SumHistory:
    """Return the sums of a job in which the client of a state file has been; more of them are kept there at once.

    Raises ConfigError for a file that holds something else.
    """
    history = SumHistory(lambda sums: state_file.keep(SUMS, {"job": job_id, "sums": sums}, {}))
    values = state_file.glance(SUMS) or {}
    if values.get("job") == job_id:
        with state_file.reading(SUMS):
            history.load(values["sums"])
    return history


class ClientCheckpoint:
    """Keeps it after each round and before each upload."""

    def __init__(self, state_file: StateFile, owner: Mapping[str, Any]) -> None:
        """``owner``: whose it is, in plain values; what another has kept is refused."""
        self._state_file = state_file
        self._owner = dict(owner)

    def keep(self, training: Training, encoder: DeltaEncoder, upload: PendingUpload | None) -> None:
        """Replace what is kept."""
        if not self._state_file.keeps:
            return
        arrays = {f"own:{section}": xp.to_host(vector) for section, vector in training.own.items()}
        arrays.update({f"renewed:{section}": xp.to_host(vector) for section, vector in training.renewed.items()})
        if training.algorithm.keeps_optimizer:
            for section, slots in training.slots.items():
                arrays.update({f"slot:{section}:{name}": xp.to_host(vector) for name, vector in slots.items()})
        for chunk, state in encoder.state.items():
            arrays.update({f"state:{chunk}:{name}": xp.to_host(vector) for name, vector in state.items()})
        values: dict[str, Any] = {"owner": self._owner, "updates": training.updates, "parcel": None}
        values["missed"] = training.missed
        if upload is not None:
            keys = ("task", "round", "version", "examples", "steps", "report", "token")
            values["parcel"] = {key: getattr(upload, key) for key in keys}
            arrays.update({f"frame:{chunk}": frame for chunk, frame in upload.frames.items()})
        self._state_file.keep(NAME, values, arrays)

    def keep_again(self, training: Training, encoder: DeltaEncoder, upload: PendingUpload | None) -> None:
        """Keep what a full disk had no room for, once there is room."""
        if self._state_file.due:
            self.keep(training, encoder, upload)

    def restore(self, training: Training, encoder: DeltaEncoder) -> PendingUpload | None:
        """Take what was kept, and return the delta that was not delivered, if there is one.

        Raises ConfigError when it is another client's or of another job.
        """
        found = self._state_file.load(NAME)
        if found is None:
            self.keep(training, encoder, None)  # who this is, for a successor that comes before the first round's end
            return None
        with self._state_file.reading(NAME):
            return self._take(*found, training, encoder)

    def _take(
        self, values: dict[str, Any], arrays: Mapping[str, HostArray], training: Training, encoder: DeltaEncoder
    ) -> PendingUpload | None:
        kept = values["owner"]
        for name, mine in self._owner.items():
            if kept.get(name) != mine:
                theirs = f"{name} = {kept.get(name)!r}"
                raise ConfigError(f"the state file is of a client with {theirs}, not {mine!r}; give another --state")
        frames: dict[int, HostArray] = {}
        for key, array in arrays.items():
            kind, _, name = key.partition(":")
            head, _, tail = name.rpartition(":")
            if kind == "own":
                training.own[name] = array
            elif kind == "renewed":
                training.renewed[name] = array
            elif kind == "slot":
                training.slots.setdefault(head, {})[tail] = array
            elif kind == "state":
                encoder.state.setdefault(int(head), {})[tail] = array
            else:
                frames[int(name)] = array
        training.updates, training.missed = int(values["updates"]), values["missed"]
        return PendingUpload(**values["parcel"], frames=frames) if values["parcel"] is not None else None
