"""Settings: what a command line or a call, the environment and a TOML file say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.config.job import JobConfig
from ps.config.load import COMMAND_LINE, Loaded, load, merge
from ps.config.process import ProcessConfig
from ps.config.setting import env_of, settings_of
from ps.config.toml import Toml
from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """``flags`` win over ``env``, and that over ``toml``."""

    flags: Mapping[str, Any]
    env: Mapping[str, str]
    toml: Toml
    caller: str = COMMAND_LINE
    """Who gave the flags."""

    def job(self) -> Loaded[JobConfig]:
        """Return the job's settings, checked, with their sources."""
        return self._load(JobConfig)

    def explicit_job(self) -> dict[str, Any]:
        """Return the job's settings that were really set."""
        return self._merge(JobConfig)

    def process(self) -> Loaded[ProcessConfig]:
        """Return this process's settings, checked, with their sources."""
        return self._load(ProcessConfig)

    def plugins(self) -> tuple[str, ...]:
        """Return the modules that this process loads."""
        return self._merge(ProcessConfig).get("plugins") or ()

    def handed_on(self) -> dict[str, str]:
        """Return the variables by which processes that this one starts load the same plug-ins."""
        return env_of(ProcessConfig, {"plugins": self.plugins() or None})

    def _of(self, cls: type) -> dict[str, Any]:
        return {name: value for name, value in self.flags.items() if name in settings_of(cls)}

    def _load(self, cls: Any) -> Loaded[Any]:
        toml = self.toml
        return load(cls, flags=self._of(cls), env=self.env, toml=toml.values, toml_name=toml.name, caller=self.caller)

    def _merge(self, cls: type) -> dict[str, Any]:
        toml = self.toml
        values, _ = merge(
            cls, flags=self._of(cls), env=self.env, toml=toml.values, toml_name=toml.name, caller=self.caller
        )
        return values
