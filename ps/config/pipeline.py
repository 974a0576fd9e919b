"""What a job whose workers have parts of the model needs of its settings, and which of them it has no use for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ps.config.transport import shares_memory
from ps.errors import ConfigError

if TYPE_CHECKING:
    from ps.config.job import JobConfig


def replaces(job: JobConfig) -> bool:
    """Whether another worker may take the place of one that is gone: where a step can be taken again as it was."""
    return job.pipeline and job.lockstep and job.waves == 1


def awaits(job: JobConfig, ranks: Iterable[int]) -> bool:
    """Whether one may come to take a place that is lost: the job announces spares, or one of these workers is one."""
    return replaces(job) and (job.spares > 0 or not all(map(job.has_place, ranks)))


def check_pipeline(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError unless the workers can be dealt out to pipelines, and do what other settings ask for."""
    places, stages = job.places, job.stages or job.places
    if job.workers % places:
        cause = next((say(name) for name in ("pipeline_workers", "stages") if getattr(job, name)), say("mode"))
        less = job.workers // places * places
        fitting = f"{less} or {less + places}" if less else str(places)
        raise ConfigError(
            f"{say('workers')} with {cause}: {places} workers are one pipeline, so their number is a multiple of "
            f"{places}; --spares N starts others, which wait until a place is free. Try: --workers {fitting}"
        )
    each = -(-stages // places)
    if -(-stages // each) != places:
        raise ConfigError(
            f"{say('pipeline_workers')} with {say('stages')}: {each} stages each are enough for {-(-stages // each)} "
            f"workers, and the others would have none"
        )
    if job.lookahead and job.waves == 1:
        raise ConfigError(
            f"{say('lookahead')} makes up for the delay of several waves, and with {say('waves')} there is none"
        )
    if job.spares and job.waves > 1:
        raise ConfigError(
            f"{say('spares')} cannot be had with {say('waves')}: waves under way cannot be taken again with "
            f"the weights that they began with. Try: --waves 1"
        )
    if job.spares and not replaces(job):
        raise ConfigError(
            f"{say('spares')} cannot be had with {say('mode')}: the weights with which a step is to be taken again may "
            f"have changed meanwhile by other pipelines' updates. Try: --mode pipeline"
        )
    if job.clip_norm is not None and not job.lockstep:
        raise ConfigError(
            f"{say('clip_norm')} cannot be had with {say('mode')}: each pipeline's gradients are applied as they come, "
            f"and none of its workers has the norm of all. Try: --clip-value, or --mode pipeline"
        )
    for name, idle in (("overlap", False), ("compress", "none")):
        if getattr(job, name) != idle:
            raise ConfigError(f"{say(name)} cannot be had with {say('mode')}: a worker has a part of the model only")
    if job.on_nan == "skip":
        raise ConfigError(
            f"{say('on_nan')} cannot be had with {say('mode')}: the workers of the other stages would take the step"
        )
    if shares_memory(job.transport):
        raise ConfigError(f"{say('transport')} cannot be had with {say('mode')}. Try: --transport auto")
