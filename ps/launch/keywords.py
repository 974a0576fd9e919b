"""Settings as keywords of a function: what flags are on a command line, with the same meaning, bounds and defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ps import plugins
from ps.config import JobConfig, ProcessConfig, Settings, find_toml, settings_of
from ps.config.setting import suggest
from ps.errors import ConfigError


def called_with(given: Mapping[str, Any], caller: str) -> Settings:
    """Return the settings of a call of ``caller``, with its plug-ins loaded. Raises ConfigError for unknown ones."""
    known = {
        **settings_of(JobConfig),
        **{k: row for k, row in settings_of(ProcessConfig).items() if "run" in row.roles},
    }
    flags = {name: value for name, value in given.items() if name != "config"}
    for name in flags:
        if name not in known:
            raise ConfigError(f"unknown setting {name!r} in {caller}{suggest(name, known)}")
    settings = Settings(flags, os.environ, find_toml(os.environ, given.get("config")), caller)
    plugins.load(settings.plugins())
    return settings
