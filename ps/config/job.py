"""JobConfig: what every member of a job must agree on. The scheduler holds it and hands it out in WELCOME."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ps.config.aggregator import check_aggregator
from ps.config.chunk_size import default_of, is_too_large
from ps.config.clipping import check_clipping
from ps.config.compression import check_compression
from ps.config.cut import MOST_SERVERS
from ps.config.elastic import ElasticConfig, check_elastic
from ps.config.mode import BOUNDED, DISTRIBUTED, FEDERATED, MODES, PIPELINE
from ps.config.privacy import DP
from ps.config.secure import SECURE, SECURE_MIN
from ps.config.setting import check_ranges, setting, settings_of
from ps.config.transport import NAMES
from ps.config.values import LONGEST_WAIT, MOST_STAGES, PATH, SIZE, STAGES
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.number import MOST_CLIENTS, MOST_COMBINED, MOST_STEPS
from ps.text import one_of

if TYPE_CHECKING:
    from ps.config.specs import JobSpecs


MOST_WAVES = 100

EXPLICIT = "explicit"
"""The source of a setting that somebody has set, where it is not known how."""
_NO_SOURCES: Mapping[str, str] = types.MappingProxyType({})


@dataclass(frozen=True, slots=True)
class JobConfig(ElasticConfig):
    """The settings of a job, every one with a default."""

    servers: int = setting(1, "number of server processes that share the model", low=1, high=MOST_SERVERS, short="-s")
    workers: int = setting(
        1, "number of workers the job starts with, or fewest and most: 2:8", low=1, high=MOST_CLIENTS, short="-w"
    )
    mode: str = setting("sync", "when pushed gradients are applied", tuple(MODES))
    staleness: int = setting(
        2, "clocks that a worker may be ahead of the slowest", low=0, high=MOST_STEPS, modes=BOUNDED
    )
    backup_workers: int = setting(
        0, "apply after all but this many workers have pushed", low=0, high=MOST_CLIENTS, modes=("sync",)
    )
    staleness_scaling: bool = setting(False, "divide the learning rate by a push's staleness", modes=("async",))
    aggregator: str = setting(
        "auto",
        "how contributions are combined: mean, weighted, median, trimmed:0.1, krum:1, multikrum:1, geomedian, ...",
    )
    optimizer: str = setting("sgd:lr=0.1", "name and numbers, such as adam:lr=1e-3,weight_decay=1e-4")
    schedule: str = setting("constant", "learning-rate schedule, such as cosine:steps=1000,warmup=50")
    clip_value: float | None = setting(None, "clip every gradient element to [-v, v]", low=1e-30, high=1e30)
    clip_norm: float | None = setting(None, "scale the gradient down to this global L2 norm", low=1e-30, high=1e30)
    on_nan: str = setting(
        "fail",
        "on a gradient with NaN, Inf or too large a number: stop (federated: sit the round out), skip the step, or "
        "do not check",
        ("fail", "skip", "ignore"),
    )
    compress: str = setting("none", "how gradients and weights are compressed, such as int8 or topk:0.01")
    transport: str = setting("auto", "how tensors travel; auto takes the fastest that works", NAMES)
    params: str = setting(
        "auto",
        "with shared memory, read the weights where the servers keep them, or in a private copy",
        ("auto", "private"),
        modes=("sync",),
    )
    overlap: bool = setting(
        False, "let a step return before all new weights have arrived; reading a tensor waits for it", modes=DISTRIBUTED
    )
    window: int = setting(
        8 << 20, "most bytes that a worker has on the way to one server", kind=SIZE, low=1 << 10, high=1 << 40
    )
    heartbeat_timeout: float = setting(
        10.0, "seconds without a sign of life after which a member is taken for dead", low=0.1, high=LONGEST_WAIT
    )
    start_timeout: float = setting(
        120.0, "seconds to wait for all servers and workers to join", low=0.1, high=LONGEST_WAIT
    )
    idle_timeout: float = setting(
        600.0,
        "seconds that the servers keep the model for new workers when none is left",
        low=0.1,
        high=LONGEST_WAIT,
    )
    seed: int = setting(
        0, "seed for the order of the data, random compression and the selection of clients", low=0, high=(1 << 63) - 1
    )
    init: str | None = setting(
        None, "safetensors file with the model's first values, which count instead of the script's", kind=PATH
    )
    eval_every: int = setting(
        0, "evaluate every N steps (federated: rounds), and at the end; 0: only at the end", low=0, high=MOST_STEPS
    )
    stages: int | None = setting(
        None,
        "how many pieces the model is cut into; none: one for each worker of a pipeline; auto: so many too, balanced",
        kind=STAGES,
        modes=PIPELINE,
    )
    pipeline_workers: int | None = setting(
        None,
        "workers of one pipeline; with fewer than stages each has several; none: one for each stage, or all workers",
        low=1,
        high=MOST_STAGES,
        modes=PIPELINE,
    )
    compress_activations: str = setting(
        "none", "how activations and their gradients travel between stages: none, bf16, fp16 or int8", modes=PIPELINE
    )
    waves: int = setting(
        1,
        "batches that a pipeline has under way at once; 1: none begins before the weights are up to date",
        low=1,
        high=MOST_WAVES,
        modes=PIPELINE,
    )
    lookahead: float = setting(
        0.0,
        "against the delay of several waves, compute with weights that are this many updates ahead",
        low=0,
        high=1000,
        modes=PIPELINE,
    )
    spares: int = setting(
        0,
        "workers beside the others that wait to take the place of one that is gone",
        low=0,
        high=MOST_STAGES,
        modes=PIPELINE,
    )
    algorithm: str = setting("fedavg", "fedavg, fedprox:0.01, scaffold, fedbuff:10, diloco, ...", modes=FEDERATED)
    rounds: int = setting(10, "how many rounds", low=1, high=MOST_STEPS, modes=FEDERATED)
    clients_per_round: int | None = setting(
        None,
        "contributions that complete a round; none: one from every client",
        low=1,
        high=MOST_COMBINED,
        modes=FEDERATED,
    )
    min_clients: int | None = setting(
        None,
        "fewest contributions at the deadline; with less the round is repeated; none: half",
        low=1,
        high=MOST_CLIENTS,
        modes=FEDERATED,
    )
    over_select: float = setting(
        1.3, "select this many times the clients that are needed", low=1, high=1000, modes=FEDERATED
    )
    round_deadline: float | None = setting(
        None,
        "most seconds for a round; none: set from the clients' times so far",
        low=1e-3,
        high=LONGEST_WAIT,
        modes=FEDERATED,
    )
    late: str = setting(
        "drop",
        "what happens to a delta that comes after its round: drop it, give it less weight, or count it in full",
        ("drop", "discount", "carry"),
        modes=FEDERATED,
    )
    max_staleness: int | None = setting(
        None,
        "most rounds that a delta may be late and still count; none: 10, fedbuff: 1000",
        low=1,
        high=MOST_STEPS,
        modes=FEDERATED,
    )
    local_epochs: int = setting(1, "passes over a client's data in one round", low=1, high=1_000_000, modes=FEDERATED)
    local_steps: int | None = setting(
        None, "steps of a client in one round, instead of epochs", low=1, high=MOST_STEPS, modes=FEDERATED
    )
    local_optimizer: str | None = setting(None, "the clients' optimizer; none: the job's optimizer", modes=FEDERATED)
    server_optimizer: str | None = setting(None, "the servers' optimizer; none: the algorithm's own", modes=FEDERATED)
    server_schedule: str = setting("constant", "the servers' learning-rate schedule, over rounds", modes=FEDERATED)
    partition: str = setting(
        "iid",
        "how one data set is divided among clients: iid, shards:2, dirichlet:0.3, ...; own: each has its own",
        modes=FEDERATED,
    )
    max_client_time: float = setting(
        10.0,
        "do not wait for clients that are more than this many times slower than the typical one",
        low=1,
        high=1e6,
        modes=FEDERATED,
    )
    max_client_weight: float = setting(
        10.0,
        "limit a client's weight to this many times the typical client's",
        low=1e-3,
        high=1e9,
        modes=FEDERATED,
    )
    max_delta_norm: float = setting(
        100.0,
        "refuse a delta whose norm is more than this many times the typical one",
        above=1,
        high=1e9,
        modes=FEDERATED,
    )
    max_influence: float = setting(
        3.0,
        "limit a delta's weight times norm to this many times what 3 of 4 clients stay below",
        low=1,
        high=1e9,
        modes=FEDERATED,
    )
    upload_room: int = setting(
        1 << 30,
        "most bytes of unfinished uploads that a server keeps",
        kind=SIZE,
        low=1 << 20,
        high=1 << 40,
        modes=FEDERATED,
    )
    dp: str | None = DP
    secure: str = SECURE
    secure_min: int = SECURE_MIN

    _specs: Any = dataclasses.field(init=False, default=None, repr=False, compare=False)
    """Read once, when they are first asked for; a copy with other settings reads its own."""

    @property
    def chunk_bytes(self) -> int:
        """The bytes of a chunk of any model, at most: see ``chunk_bytes_of``."""
        return self.chunk_size or default_of(self)

    @property
    def federated(self) -> bool:
        """Whether clients train on their own and ship deltas."""
        return MODES[self.mode].federated

    @property
    def pipeline(self) -> bool:
        """Whether each worker has a part of the model."""
        return MODES[self.mode].pipeline

    @property
    def ends_together(self) -> bool:
        """Whether training ends at one clock for all."""
        return self.lockstep or self.pipeline

    @property
    def places(self) -> int:
        """The workers that have the whole model together: worker r is place r modulo these of its pipeline."""
        return (self.pipeline_workers or self.stages or self.workers) if self.pipeline else 1

    def has_place(self, rank: int) -> bool:
        """Whether a worker of this rank takes part; beyond the places that there are, wait those who take one later."""
        return rank < self.workers or not (self.pipeline or self.min_workers)

    @property
    def fewest(self) -> int:
        """The workers without which nothing begins."""
        return self.min_workers or self.workers

    def place_of(self, rank: int) -> int:
        """Return the place that a worker has in its pipeline; 0 where each has the whole model."""
        return rank % self.places

    def pipeline_of(self, rank: int) -> int:
        """Return which of the copies of the model a worker trains, or a part of it."""
        return rank // self.places

    def together_with(self, rank: int) -> range:
        """Return the ranks of the workers that have the whole model together with this one, which is among them."""
        first = rank - self.place_of(rank)
        return range(first, first + self.places)

    @property
    def copies(self) -> int:
        """How many times the model is trained, each time on another share of the data."""
        return self.workers // self.places

    @property
    def delay(self) -> int:
        """How many updates the weights lack, at most, that a pipeline's gradients are computed with."""
        return self.waves - 1 if self.pipeline else 0

    @property
    def defers(self) -> bool:
        """Whether a step returns before its new weights have arrived."""
        return self.overlap or self.delay > 0

    @property
    def steady(self) -> bool:
        """Whether a clock, or a round, is closed for all of the model at once."""
        return self.lockstep or self.federated

    @property
    def lockstep(self) -> bool:
        """Whether all workers contribute to one clock at a time."""
        return MODES[self.mode].lockstep

    @property
    def clips_in_two_phases(self) -> bool:
        """Whether a clock's combined gradient waits for its norm over all chunks; else each worker clips its own."""
        return self.clip_norm is not None and self.lockstep

    @property
    def reads_in_place(self) -> bool:
        """Whether workers of the servers' host may read the weights where these keep them: all are in one clock."""
        return self.lockstep and not self.backup_workers and self.params == "auto" and not self.pipeline

    def heeds(self, name: str) -> bool:
        """Whether a setting means something in this mode."""
        modes = settings_of(JobConfig)[name].modes
        return not modes or self.mode in modes

    @property
    def goal(self) -> int:
        """Federated: the contributions that close a round."""
        return min(self.clients_per_round or self.workers, self.workers)

    @property
    def quorum(self) -> int:
        """Federated: the contributions without which a round is abandoned at its deadline."""
        least = self.secure_min if self.secure != "none" else 1
        return min(self.min_clients or max(least, self.goal // 2), self.goal)

    @property
    def specs(self) -> JobSpecs:
        """What the texts of the settings name. ConfigError when one of them names nothing."""
        if self._specs is None:
            self._read_specs(_NO_SOURCES)
        return cast("JobSpecs", self._specs)

    def _read_specs(self, sources: Mapping[str, str]) -> None:
        from ps.config.specs import JobSpecs  # here, so that psctl --help does not wait for NumPy

        object.__setattr__(self, "_specs", JobSpecs.read(self, sources))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {name: getattr(self, name) for name in settings_of(JobConfig)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JobConfig:
        """Return the configuration these plain values describe, checked; those missing keep their default."""
        table = settings_of(cls)
        for key in values:
            if key not in table:
                raise ConfigError(f"the job has a setting {key!r} that this version does not know")
        job = cls(**{key: table[key].read(value, "the scheduler") for key, value in values.items()})
        job.check()
        return job

    def check(self, sources: Mapping[str, str] = _NO_SOURCES) -> None:
        """Raise ConfigError when a value is out of range or two settings contradict each other.

        ``sources`` says where values came from ("flag --workers"), for the message.
        """
        check_ranges(self, sources)

        def say(name: str) -> str:
            row = settings_of(JobConfig)[name]
            source = f" ({sources[name]})" if sources.get(name, EXPLICIT) != EXPLICIT else ""
            return f"{name} = {row.show(getattr(self, name))}{source}"

        self._read_specs(sources)
        if self.federated or self.dp:  # which no other mode has
            from ps.config.federated import check_federated

            check_federated(self, say)
        if self.pipeline:
            from ps.config.pipeline import check_pipeline

            check_pipeline(self, say)
        if self.backup_workers and not self.heeds("backup_workers"):
            needed = one_of(settings_of(JobConfig)["backup_workers"].modes)
            raise ConfigError(f"{say('backup_workers')} needs mode = {needed}, but {say('mode')}")
        if self.backup_workers >= self.fewest:
            raise ConfigError(f"{say('backup_workers')} must be less than {say(self.counted)}")
        if not self.federated:
            check_aggregator(self, say)
        check_elastic(self, say)
        check_clipping(self, say)
        if is_too_large(self):
            raise ConfigError(f"{say('window')} must be at least chunk_size = {SIZE.show(self.chunk_bytes)}")
        check_compression(self, say)
