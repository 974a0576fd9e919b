"""SnapshotFolder: snapshots as safetensors files, one for each clock, and a link to the newest."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from ps.errors import PSError, UnsavedModel, UsageError
from ps.following.snapshot import Snapshot
from ps.lock import Lock
from ps.regular_file import reason, shown
from ps.weights_file import bare, open_weights, write_weights
from ps.whole import check_writable
from ps.xp import HostArray

LATEST = "latest.safetensors"
_NAME = re.compile(r"step-([0-9]+)\.safetensors")
_DRAFT = re.compile(r"\.step-[0-9]+\.safetensors\.[0-9a-f]{8}")


class SnapshotFolder:
    """A folder that one follower writes snapshots of one job to."""

    def __init__(self, path: str, keep: int = 0) -> None:
        """Make the folder; ``keep``: of so many files, the oldest go, 0 for all. Raises UsageError."""
        self._keep = keep
        self._rest: Mapping[str, HostArray] = {}
        try:
            self.path = Path(path).absolute()
            self.path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write snapshots to {shown(path)}: {reason(error)}") from None
        check_writable(self.path / LATEST.replace("latest", "step-0"), "snapshots")
        advice = "give each its own --out"
        self._lock = Lock(self.path / "follow", what=f"the folder {path}", advice=advice)

    def claim(self, job: str, rest: Mapping[str, HostArray] | None = None) -> None:
        """Write snapshots of this job from now on, with the ``rest`` of the model in each.

        Raise UsageError if the folder has another job's snapshots; take away what a killed follower was writing."""
        self._rest = rest or {}
        for each in self._files():
            if (other := _job_of(each)) != job:
                whose = f"job {other}" if other else "no job"
                raise UsageError(f"{each} is a snapshot of {whose}, not of job {job}: give another --out")
        with contextlib.suppress(OSError):
            for draft in [each for each in self.path.iterdir() if _DRAFT.fullmatch(each.name)]:
                draft.unlink(missing_ok=True)

    def write(self, snapshot: Snapshot) -> Path:
        """Write a snapshot, whole or not at all; return its file. Raises UnsavedModel."""
        path = self.path / f"step-{snapshot.clock:08d}.safetensors"
        about = snapshot.about()
        if self._rest:
            about["tensors"] = f"what is trained, and {len(self._rest)} tensors of another file"
        write_weights(path, {**bare_of(snapshot), **self._rest} if self._rest else snapshot, about)
        own = self.path / f".{LATEST}.{secrets.token_hex(4)}"
        try:
            own.symlink_to(path.name)
            own.replace(self.path / LATEST)
        except OSError as error:
            own.unlink(missing_ok=True)
            raise UnsavedModel(f"{path} is written, but not the link {LATEST} to it: {reason(error)}") from None
        self._prune()
        return path

    def close(self) -> None:
        """Let another follower have the folder."""
        self._lock.release()

    def _prune(self) -> None:
        for each in self._files()[: -self._keep] if self._keep else []:
            with contextlib.suppress(OSError):
                each.unlink()

    def _files(self) -> list[Path]:
        """Return the snapshots that are here, the oldest first."""
        matches = [(_NAME.fullmatch(path.name), path) for path in self.path.iterdir()]
        return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


def bare_of(snapshot: Snapshot) -> dict[str, HostArray]:
    """Return a snapshot's tensors by the names of the bare model, as those of a file are."""
    names = bare(snapshot)
    return {names[name]: array for name, array in snapshot.items()}


def _job_of(path: Path) -> str:
    try:
        with open_weights(path) as file:
            return file.about.get("job", "")
    except PSError:
        return ""
