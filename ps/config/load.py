"""Where settings come from. Precedence: default < script < TOML file < environment < flags. Pure functions."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Mapping
from typing import Any, Generic, Protocol, TypeVar

from ps.config.job import JobConfig
from ps.config.process import ProcessConfig
from ps.config.setting import Setting, settings_of, suggest
from ps.dataclass import dataclass
from ps.errors import ConfigError

NOTHING: Mapping[str, Any] = types.MappingProxyType({})
TOML_NAME = "paramserver.toml"

COMMAND_LINE = "the command line"

PLUMBING = (
    "PS_CONFIG",
    "PS_READY_FD",
    "PS_LIFELINE_FD",
    "PS_LIFELINE_GRACE",
    "PS_ACCOUNT_FD",
    "PS_LIVING_FD",
    "PS_TAKEN_FD",
    "PS_LIFE",
    "PS_FUNCTION_FD",
    "PS_OUTCOME_FD",
)
"""Our variables that are no settings: the TOML file, and what a launcher passes to its children."""


def without_ours(env: Mapping[str, str], kept: Collection[str] = ()) -> dict[str, str]:
    """Return an environment without settings, but for the variables ``kept``, and without what a launcher passes."""
    ours = {*PLUMBING, *(row.env for row in _all_settings().values())} - {*kept}
    return {name: value for name, value in env.items() if name not in ours}


# Kubernetes announces a Service named "ps-scheduler" to every container by variables of this shape.
_SERVICE_LINK = re.compile(r"PS_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
# One named "ps" by PS_PORT too, and "ps-0" by PS_0_PORT, whose values are no ports.
_SERVICE_PORT = re.compile(r"PS_(\w+_)?PORT=(tcp|udp|sctp)://\S+:\d+")


class Config(Protocol):
    """What ``load`` can make: a frozen dataclass of settings that can check itself."""

    def check(self, sources: Mapping[str, str] = ...) -> None: ...


T = TypeVar("T", bound=Config)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """A configuration and, for each setting, where its value came from."""

    config: T
    sources: Mapping[str, str]

    def given(self) -> dict[str, Any]:
        """Return the settings that somebody set: those not left at their default."""
        return {name: getattr(self.config, name) for name, source in self.sources.items() if source != "default"}


def load(
    cls: type[T],
    *,
    flags: Mapping[str, Any] = NOTHING,
    env: Mapping[str, str] = NOTHING,
    toml: Mapping[str, Any] = NOTHING,
    script: Mapping[str, Any] = NOTHING,
    toml_name: str = TOML_NAME,
    caller: str = COMMAND_LINE,
) -> Loaded[T]:
    """Return the checked configuration that the four sources add up to, with the source of each value.

    Values may be typed or texts in the command line's spelling. An empty variable counts as not set. ``caller`` is who
    gave the flags.
    ConfigError names the key, the value, its source and what is allowed, or suggests the key that was meant.
    """
    values, sources = merge(cls, flags=flags, env=env, toml=toml, script=script, toml_name=toml_name, caller=caller)
    config = cls(**values)
    config.check(sources)
    return Loaded(config, {name: sources.get(name, "default") for name in settings_of(cls)})


def merge(
    cls: type,
    *,
    flags: Mapping[str, Any] = NOTHING,
    env: Mapping[str, str] = NOTHING,
    toml: Mapping[str, Any] = NOTHING,
    script: Mapping[str, Any] = NOTHING,
    toml_name: str = TOML_NAME,
    caller: str = COMMAND_LINE,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that were set, typed, and their sources; like ``load`` without defaults and check."""
    table = settings_of(cls)
    check_env(env)
    toml = _toml_keys(toml, toml_name)
    check_keys(script, table, "the script")
    check_keys(flags, table, caller)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}

    def put(row: Setting, value: Any, source: str) -> None:
        if row.name == "workers":  # a range is two settings; one number takes the place of a range that is weaker
            least, value = as_range(value)
            values.pop("min_workers", None)
            sources.pop("min_workers", None)
            if least is not None:
                values["min_workers"], sources["min_workers"] = table["min_workers"].read(least, source), source
        values[row.name] = row.read(value, source)
        sources[row.name] = source

    for name, row in table.items():
        if name in script:
            put(row, script[name], "script")
        if name in toml:
            put(row, toml[name], toml_name)
        _put_fallback(row, env, values, sources)
        if env.get(row.env, "").strip() and not _is_service_link(row.env, env[row.env]):
            put(row, env[row.env], f"env {row.env}")
        if name in flags:
            put(row, flags[name], f"flag {row.flag}" if caller == COMMAND_LINE else caller)
    return values, sources


def as_range(value: Any) -> tuple[Any, Any]:
    """Return the least and the most that a range such as ``2:8`` says; for what is none, None and the value itself."""
    found = re.fullmatch(r"\s*([0-9]{1,9})\s*:\s*([0-9]{1,9})\s*", value) if isinstance(value, str) else None
    return (found[1], found[2]) if found else (None, value)


def check_env(env: Mapping[str, str]) -> None:
    """Raise ConfigError for a PS_* variable that is not ours but looks like one of ours, misspelt.

    Other programs own PS_* variables too (procps has PS_FORMAT), so one that resembles none is left alone.
    """
    known = [row.env for row in _all_settings().values()]
    for name in env:
        if name.startswith("PS_") and name not in known and name not in PLUMBING:
            guess = suggest(name, [*known, *PLUMBING], cutoff=0.85)
            if guess and not _is_service_link(name, env[name]):
                raise ConfigError(f"unknown environment variable {name}{guess}")


def _is_service_link(name: str, value: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name) or _SERVICE_PORT.fullmatch(f"{name}={value}"))


def _put_fallback(row: Setting, env: Mapping[str, str], values: dict[str, Any], sources: dict[str, str]) -> None:
    for name in row.fallbacks:
        # These belong to other programs: what we cannot read was not meant for us.
        text = env.get(name, "")
        if re.fullmatch(r"[0-9]{1,9}", text) and row.allows(int(text)):
            values[row.name], sources[row.name] = int(env[name]), f"env {name}"
            return


def _all_settings() -> dict[str, Setting]:
    return {**settings_of(JobConfig), **settings_of(ProcessConfig)}


def _toml_keys(toml: Mapping[str, Any], toml_name: str) -> dict[str, Any]:
    known = _all_settings()
    values: dict[str, Any] = {}
    for key, value in toml.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            raise ConfigError(f"{toml_name}: [{key}] is a table, but settings stand at the top level")
        if name not in known:
            raise ConfigError(f"{toml_name}: unknown setting {key!r}{suggest(name, known)}")
        if name in values:
            raise ConfigError(f"{toml_name}: {name} is set twice, with a dash and with an underscore")
        values[name] = value
    return values


def check_keys(given: Mapping[str, Any], table: Mapping[str, Setting], where: str) -> None:
    """Raise ConfigError for a key that is not in the table, with the key or the place that was meant."""
    for key in given:
        if key not in table:
            elsewhere = _all_settings().get(key)
            hint = f"; it is set by {elsewhere.flag} or {elsewhere.env}" if elsewhere else suggest(key, table)
            raise ConfigError(f"unknown setting {key!r} in {where}{hint}")
