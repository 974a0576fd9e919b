"""Promises of ps.config.toml: which file is read, and what a bad one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.config import find_toml
from ps.errors import ConfigError


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert find_toml({}, directory=str(tmp_path)).values == {}


def test_the_flag_wins_over_the_variable_and_that_over_the_default_file(tmp_path: Path) -> None:
    for name in ("paramserver", "a", "b"):
        (tmp_path / f"{name}.toml").write_text(f'mode = "{name}"')
    env = {"PS_CONFIG": str(tmp_path / "a.toml")}
    assert find_toml({}, directory=str(tmp_path)).values == {"mode": "paramserver"}
    assert find_toml(env, directory=str(tmp_path)).values == {"mode": "a"}
    assert find_toml(env, str(tmp_path / "b.toml")).values == {"mode": "b"}


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config: there is no file .*gone\.toml"):
        find_toml({}, str(tmp_path / "gone.toml"))
    with pytest.raises(ConfigError, match="PS_CONFIG: there is no file"):
        find_toml({"PS_CONFIG": str(tmp_path / "gone.toml")})


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"mode = \xff")
    with pytest.raises(ConfigError, match="no valid TOML"):
        find_toml({}, str(tmp_path / "x.toml"))
    with pytest.raises(ConfigError, match="cannot read"):
        find_toml({}, str(tmp_path))
