"""Identity: by which script, settings and data a job is that job and no other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ps.config import PIPELINE, JobConfig, settings_of
from ps.script import Script
from ps.text import shortened

FREE = frozenset(
    (
        *("servers", "chunk_size", "cut_for", "window", "transport", "params", "overlap"),
        *("heartbeat_timeout", "start_timeout", "idle_timeout", "eval_every", "spares", "replicas"),
        "upload_room",
        *("checkpoint_dir", "checkpoint_every", "keep", "resume", "init", "stages", "pipeline_workers"),
    )
)
"""Settings that do not make it another job: its result is the same whatever they are."""
_MOST_SHOWN = 100


def identity(script: Script, args: Sequence[str], settings: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    """Return what a job is known by. ``settings``: those that somebody has set, but for the script's own wishes."""
    table = settings_of(JobConfig)
    given = {name: table[name].show(value) for name, value in settings.items() if name not in FREE}
    default = {name: table[name].show(table[name].default) for name in given}
    if settings.get("mode") in PIPELINE:  # how many copies are trained counts, not on how many workers
        given["workers"] = str(JobConfig(**settings).copies)
    return {
        "script": script.name,
        "is_module": script.is_module,
        "sha256": _hash(script),
        "args": list(args),
        "settings": {name: text for name, text in sorted(given.items()) if text != default.get(name)},
        "data": data or "",
    }


def _hash(script: Script) -> str:
    """Return the hash of a script's file; "" for a folder, a zip or a module, which are known by name."""
    path = Path(script.name)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not script.is_module else ""
    except OSError:
        return ""


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Yield in what a job that is asked for differs from the one that a checkpoint is of, for people."""
    if not ours or not theirs:  # nobody knows the script, as where each role is started by hand
        return
    if ours.get("sha256") != theirs.get("sha256") or (
        not ours.get("sha256") and ours.get("script") != theirs.get("script")
    ):
        same = ours.get("script") == theirs.get("script")
        what = "was changed" if same else f"is another than {theirs.get('script')}"
        yield f"the script {ours.get('script')} {what}"
    if ours.get("args") != theirs.get("args"):
        yield f"the script's arguments are {_words(ours)}, and were {_words(theirs)}"
    default = {name: row.show(row.default) for name, row in settings_of(JobConfig).items()}
    mine, before = dict(ours.get("settings") or {}), dict(theirs.get("settings") or {})
    for name in sorted({*mine, *before}):
        now, then = mine.get(name, default.get(name)), before.get(name, default.get(name))
        if now != then:
            yield f"{name} is {shortened(str(now), _MOST_SHOWN)}, and was {shortened(str(then), _MOST_SHOWN)}"
    if ours.get("data") != theirs.get("data"):
        yield f"the data are {ours.get('data') or 'not named'}, and were {theirs.get('data') or 'not named'}"


def _words(identity: Mapping[str, Any]) -> str:
    return shortened(" ".join(map(str, identity.get("args") or ())) or "none", _MOST_SHOWN)
