"""Kinds of runs that nights harm: what each is started as, what may be done to it, and what holds in the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors.numpy import load_file

from ps.checkpoint.export import export_model
from ps.checkpoint.lives import Lives
from ps.checkpoint.manifest import Manifest
from ps.checkpoint.place import place
from support.cluster import ROOT, SCRIPTS

STEPS, WORKERS = 40, 2
ROUNDS = 15
MANY = 240
"""Steps of a job that is to live through several faults."""
RESUMED = (str(SCRIPTS / "resumed.py"), "--nap", "0.03", "--width", "8000")
LONG = (str(SCRIPTS / "resumed.py"), "--nap", "0.05", "--width", "2000", "--epochs", str(MANY // 8))
ADDING = (str(SCRIPTS / "adding.py"), str(MANY), "0.05")
PIPELINE = (str(ROOT / "ps" / "examples" / "pipeline_mlp.py"), "--epochs", "2")
CLIENT = (str(SCRIPTS / "client.py"), "--nap", "0.1")
LINKS = ("cut a link", "hold a link", "slow a link")
HARMLESS = ("stop one", "kill the scheduler", *LINKS)
"""What a job goes on after, as it is, whether it keeps anything or not."""
LOCKSTEP = ("kill all", "kill a server", "terminate", "no room", *HARMLESS)
"""What changes nothing of the bits: one worker's death does, whose gradients are not there then."""
APART = (*LOCKSTEP, "kill a worker", "late worker")
SAID = re.compile(r"(?m)^(?:worker \d+ \| )?(step|holds) (\d+) ([\d. ]+)$")
"""What ``adding.py`` says; what the launcher says of steps, and again in the end, is something else."""
SAVED = ("--checkpoint-dir", "kept", "--checkpoint-every", "4")


class Undisturbed(Protocol):
    """What runs come to that nobody disturbs."""

    def wanted(self, kind: Kind) -> Ended: ...


@dataclass(frozen=True)
class Ended:
    """What is left of a run: its folder, and what its lives have said."""

    folder: Path
    text: str


@dataclass(frozen=True)
class Kind:
    """A mode, its script, what may be done to it, and what holds in the end."""

    flags: tuple[str, ...]
    script: tuple[str, ...]
    faults: tuple[str, ...]
    promise: str
    check: Callable[[Undisturbed, Kind, Ended], None]
    kept: tuple[str, ...] = SAVED
    """What has the same command go on where it was; without, one life has to live through all that is done."""
    beside: tuple[str, ...] = ()
    """Flags that change nothing of the bits."""
    says: str = ""
    """What it says as it ends with another code than 0, if that is what is promised."""

    @property
    def replicas(self) -> bool:
        return "--replicas" in self.beside

    @property
    def goes_on(self) -> bool:
        """Whether the same command, given again, goes on."""
        return bool(self.kept)


def exported(folder: Path) -> dict[str, bytes]:
    """Return the trained parameters of the newest checkpoint: what workers keep is not in that of the end."""
    export_model(str(folder / "kept"), str(folder / "model.safetensors"))
    trained = {tensor.name for tensor in newest(folder).layout.tensors}
    found = load_file(folder / "model.safetensors")
    return {name: array.tobytes() for name, array in found.items() if name in trained}


def newest(folder: Path) -> Manifest:
    lives = Lives(place(str(folder / "kept")))
    life = lives.latest()
    found = lives.newest(life) if life is not None else None
    assert found is not None, f"no checkpoint is whole in {folder}"
    return found


def bits(nights: Undisturbed, kind: Kind, ended: Ended) -> None:
    """The parameters have the bits of a run that nobody disturbed."""
    wanted, found = exported(nights.wanted(kind).folder), exported(ended.folder)
    differ = sorted(name for name in wanted if found.get(name) != wanted[name])
    assert not differ, f"other bits in {differ}"


def digests(nights: Undisturbed, kind: Kind, ended: Ended) -> None:
    """All that each worker has, its own state too, has the bits of a run that nobody disturbed."""
    wanted, found = (set(re.findall(r"END .*", each.text)) for each in (nights.wanted(kind), ended))
    assert len(wanted) == WORKERS and found == wanted, f"other bits: {found}, not {wanted}"


def once(nights: Undisturbed, kind: Kind, ended: Ended) -> None:
    """What is in each chunk is what its list of contributions says, each once.

    A worker that comes late has a clock to begin at, before which it contributes nothing.
    """
    for chunk in newest(ended.folder).chunks:
        ours = sum(clocks for rank, clocks in chunk.done.items() if rank < WORKERS)
        most = sum(chunk.done.values())
        assert ours <= chunk.version <= most, (chunk.version, chunk.done)
        assert max(chunk.done.values()) == STEPS, (chunk.index, chunk.done)


def added(nights: Undisturbed, kind: Kind, ended: Ended) -> None:
    """The weights are the number of contributions, to one that was killed in mid-step for each."""
    counts, held = dict[str, int](), list[tuple[float, float]]()
    for name, rank, rest in SAID.findall(ended.text):
        if name == "step":
            counts[rank] = counts.get(rank, 0) + 1
        else:
            least, most = map(float, rest.split())
            held.append((least, most))
    total = sum(counts.values())
    unfinished = sum(1 for count in counts.values() if count % MANY)
    assert held and any(total <= least and most <= total + unfinished for least, most in held), (counts, held)


def finite(nights: Undisturbed, kind: Kind, ended: Ended) -> None:
    """It has come to its end, and what there is is finite."""
    found = exported(ended.folder)
    assert found and all(np.isfinite(np.frombuffer(data, np.float32)).all() for data in found.values())


def nothing(nights: Undisturbed, kind: Kind, ended: Ended) -> None:
    """Nothing is left."""
    assert not (ended.folder / "kept").exists()


def rounds(nights: Undisturbed, kind: Kind, ended: Ended) -> None:
    """Each client adds one in each round: the weights say how many have counted."""
    found = set(re.findall(r"final (.*)", ended.text))
    assert found == {f"{ROUNDS} of 1"}, found


EQUAL = ("--data-sharing", "static")
"""Each worker has as many steps as the others, however fast it is: that is what ``once`` counts."""
TWO = ("-s", "2", "-w", "2")
REPLICAS = ("--replicas", "1", "--restarts", "10")
ADAM = (*TWO, "--optimizer", "adam:lr=0.01", "--clip-norm", "1")
ASYNC = (*TWO, "--mode", "async", *EQUAL)
SSP = (*TWO, "--mode", "ssp", "--staleness", "2", *EQUAL)
BITS, ONCE = "the bits of an undisturbed run", "each contribution counts once"
HURT = ("kill a server", *HARMLESS)
"""What a job with standbys goes on after as it is."""
KINDS = {
    "sync, adam": Kind(ADAM, RESUMED, LOCKSTEP, BITS, bits),
    "async": Kind(ASYNC, RESUMED, APART, ONCE, once),
    "sync, top-k": Kind((*TWO, "--optimizer", "sgd:lr=0.05", "--compress", "topk:0.05"), RESUMED, LOCKSTEP, BITS, bits),
    "ssp": Kind(SSP, RESUMED, APART, ONCE, once),
    "pipeline": Kind((*TWO, "--mode", "pipeline"), PIPELINE, LOCKSTEP, BITS, bits),
    "federated": Kind(
        ("-s", "2", "-w", "3", "--mode", "federated", "--rounds", str(ROUNDS), "--min-clients", "1"),
        CLIENT,
        ("kill all", "kill a server", "kill a worker", "stop one", "terminate", *LINKS),
        "each round counts once",
        rounds,
        ("--state", "job.db"),
    ),
    "sync, replicas": Kind(ADAM, LONG, HURT, BITS, digests, (), REPLICAS),
    "async, replicas": Kind(ASYNC, ADDING, (*HURT, "kill a worker", "late worker"), ONCE, added, (), REPLICAS),
    "sync, replicas and checkpoints": Kind(ADAM, RESUMED, (*LOCKSTEP, "kill a server"), BITS, bits, SAVED, REPLICAS),
    "ssp, replicas and checkpoints": Kind(SSP, RESUMED, (*APART, "kill a server"), ONCE, once, SAVED, REPLICAS),
    "sync, nothing kept": Kind(ADAM, LONG, HARMLESS, BITS, digests, ()),
    "ssp, nothing kept": Kind(SSP, ADDING, (*HARMLESS, "kill a worker", "late worker"), ONCE, added, ()),
    "pipeline with a spare": Kind(
        (*TWO, "--mode", "pipeline"), PIPELINE, (*LOCKSTEP, "kill a worker"), BITS, bits, SAVED, ("--spares", "1")
    ),
    "pipelines apart": Kind(
        ("-s", "2", "-w", "4", "--mode", "pipeline-ssp", "--stages", "2"), PIPELINE, LOCKSTEP, "it ends", finite
    ),
    "sync, workers that come and go": Kind(
        ("-s", "2", "-w", "1:3", "--optimizer", "momentum:lr=0.01"), RESUMED, APART, "it ends", finite
    ),
    "sync, a server dies and nothing is kept": Kind(
        ADAM, LONG, ("kill a server",), "it says so", nothing, (), (), r"server \d"
    ),
}
