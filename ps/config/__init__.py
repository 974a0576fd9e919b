"""Configuration: one table of settings, spelt as flags, PS_* variables, TOML keys and script arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.config.job import EXPLICIT, JobConfig
from ps.config.load import NOTHING, Loaded, check_keys, load, merge
from ps.config.mode import DISTRIBUTED, MODES, PIPELINE
from ps.config.process import ProcessConfig
from ps.config.setting import Setting, env_of, flags_of, settings_of
from ps.config.settings import Settings
from ps.config.toml import Toml, find_toml
from ps.config.values import SCHEDULER_PORT, format_size, parse_address, parse_size

__all__ = [
    "DISTRIBUTED",
    "MODES",
    "PIPELINE",
    "SCHEDULER_PORT",
    "JobConfig",
    "Loaded",
    "ProcessConfig",
    "Setting",
    "Settings",
    "Toml",
    "env_of",
    "explicit_job",
    "find_toml",
    "flags_of",
    "format_size",
    "job_from",
    "load",
    "merge",
    "parse_address",
    "parse_size",
    "process_from_env",
    "settings_of",
]


def explicit_job(
    flags: Mapping[str, Any], env: Mapping[str, str], toml: Toml | Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """Return the job's settings that flags, environment or TOML file really set, typed.

    This is what a scheduler starts with; the script's defaults come later, from the workers.
    """
    if not isinstance(toml, Toml):
        toml = Toml(values=toml)
    values, _ = merge(JobConfig, flags=flags, env=env, toml=toml.values, toml_name=toml.name)
    return values


def job_from(explicit: Mapping[str, Any], script: Mapping[str, Any] = NOTHING) -> JobConfig:
    """Return the checked job: defaults, over them what the script asks for, over that what is explicit.

    Values may be typed or texts. A script's ``backup_workers`` goes away when another mode than sync was
    chosen explicitly: a script's defaults must not stop it from being run in another mode.
    """
    values, sources = merge(JobConfig, script=script)
    if explicit.get("mode", "sync") != "sync" and "mode" in explicit:
        values.pop("backup_workers", None)
    if "workers" in explicit and "min_workers" not in explicit:  # one number takes the place of a script's range
        values.pop("min_workers", None)
    check_keys(explicit, settings_of(JobConfig), "the job")
    for name, value in explicit.items():
        values[name] = settings_of(JobConfig)[name].read(value, EXPLICIT)
        sources[name] = EXPLICIT
    job = JobConfig(**values)
    job.check(sources)
    return job


def process_from_env(env: Mapping[str, str], toml: Toml | Mapping[str, Any] = NOTHING) -> ProcessConfig:
    """Return the settings of this process as the environment (and a TOML file, if given) has them."""
    if not isinstance(toml, Toml):
        toml = Toml(values=toml)
    return load(ProcessConfig, env=env, toml=toml.values, toml_name=toml.name).config
