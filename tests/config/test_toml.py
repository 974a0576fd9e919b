"""Promises of ps.config.toml: which file is read, and what a bad one gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ps.config import find_toml
from ps.config.toml import LARGEST
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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("seed = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("seed = " + "{a=" * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("seed = " + "9" * 5000, "too many digits"),
        ("mode = 'a\0b'", "at line 1"),
        ("# " + "x" * LARGEST, "larger than 1048576 bytes"),
    ],
)
def test_whatever_is_wrong_in_a_file_is_said_in_a_line_that_says_where_its_name_came_from(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "paramserver.toml").write_text(text)
    for place, source in (({}, "the working directory"), ({"PS_CONFIG": str(tmp_path / "paramserver.toml")}, "PS_CON")):
        with pytest.raises(ConfigError, match=rf"paramserver.toml \(from {source}.*{why}") as found:
            find_toml(place, directory=str(tmp_path))
        assert len(str(found.value)) < 300 and "\n" not in str(found.value)


@pytest.mark.timeout(10)
def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/dev/zero", "/dev/full"):
        with pytest.raises(ConfigError, match=rf"cannot read {path} \(from --config\): it is a device, a pipe"):
            find_toml({}, path)


def test_a_byte_order_mark_is_no_part_of_the_first_setting(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfworkers = 3\n")
    assert find_toml({}, str(tmp_path / "x.toml")).values == {"workers": 3}
