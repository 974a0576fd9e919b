"""Promises of the options: every setting has a flag, a variable and a TOML key, and they mean the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from ps.cli import main
from ps.cli.app import psctl
from ps.config import JobConfig, ProcessConfig, Setting, settings_of
from ps.config.values import BOOL

ROWS = [row for cls in (JobConfig, ProcessConfig) for row in settings_of(cls).values()]
TEXTS = {
    "N": "3",
    "X": "2.5",
    "SIZE": "4MiB",
    "DEVICE": "cuda:1",
    "ADDRESS": "tcp://a:1",
    "PATH": "p",
    "MODULE": "json",
}
SPECIAL = {
    "checkpoint_every": "30s",
    "compress": "topk:0.05",
    "compress_activations": "int8",
    "optimizer": "adam:lr=0.5",
    "replicas": "1",
    "schedule": "constant",
    "host": "10.0.0.9",
    "page_host": "10.0.0.9",
    "aggregator": "weighted",
    "algorithm": "fedprox:mu=0.5",
    "secure": "pairwise:clip=0.5",
    "local_optimizer": "adam:lr=0.5",
    "server_optimizer": "adam:lr=0.5",
    "server_schedule": "cosine:steps=10",
    "partition": "shards:2",
    "track": "tensorboard",
    "dp": "eps=8,delta=1e-6,clip=1",
}


def text_of(row: Setting) -> str:
    return row.choices[-1] if row.choices else SPECIAL.get(row.name) or TEXTS[row.kind.metavar]


def shown(argv: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["config", "--json", *argv]) == 0
    rows: dict[str, Any] = json.loads(capsys.readouterr().out)
    return rows


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_flag_variable_and_toml_key_are_twins(
    row: Setting, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"backup_workers": ["--workers", "9"], "min_workers": ["--workers", "9"], "dp": ["--mode", "federated"]}.get(
        row.name, []
    )
    flags = [row.flag] if row.kind is BOOL else [row.flag, text_of(row)]
    text = "true" if row.kind is BOOL else text_of(row)
    by_flag = shown([*flags, *more], capsys)[row.name]
    assert by_flag["source"] == f"flag {row.flag}"
    Path("paramserver.toml").write_text(f'{row.name} = "{text}"')
    by_toml = shown(more, capsys)[row.name]
    assert by_toml["source"] == "paramserver.toml"
    monkeypatch.setenv(row.env, text)
    by_env = shown(more, capsys)[row.name]
    assert by_env["source"] == f"env {row.env}"
    assert by_flag["value"] == by_env["value"] == by_toml["value"]


def test_every_setting_is_a_flag_of_the_commands_that_use_it() -> None:
    def flags(command: str) -> set[str]:
        return {opt for param in psctl.load()[command].params for opt in param.opts if opt[:2] == "--"}

    job = {row.flag for row in settings_of(JobConfig).values()}
    assert job <= flags("run")
    assert job <= flags("scheduler")
    assert not job & flags("worker")
    assert not job & flags("server")
    for row in settings_of(ProcessConfig).values():
        for role in row.roles:
            assert row.flag in flags(role)
    assert {row.flag for row in ROWS} <= flags("config")


def test_short_flags_are_not_used_twice() -> None:
    for command in psctl.load().values():
        options = [param for param in command.params if isinstance(param, click.Option)]
        names = [name for param in options for name in (*param.opts, *param.secondary_opts)]
        assert len(names) == len(set(names))


def test_a_boolean_can_be_switched_off_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PS_STALENESS_SCALING", "yes")
    assert shown([], capsys)["staleness_scaling"]["value"] is True
    assert shown(["--no-staleness-scaling"], capsys)["staleness_scaling"]["value"] is False


def test_the_table_names_values_and_sources(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PS_CHUNK_SIZE", "4096")
    assert main(["config", "--clip-norm", "2"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["chunk_size", "4KiB", "env", "PS_CHUNK_SIZE"] in [row[:4] for row in rows]
    assert ["clip_norm", "2.0", "flag", "--clip-norm"] in [row[:4] for row in rows]


def test_a_misspelt_variable_or_key_is_an_error_with_a_suggestion(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("paramserver.toml").write_text("stalness = 3")
    assert main(["config"]) == 2
    assert "unknown setting 'stalness'; did you mean 'staleness'?" in capsys.readouterr().err
    Path("paramserver.toml").unlink()
    monkeypatch.setenv("PS_WORKER", "3")
    assert main(["config"]) == 2
    assert "unknown environment variable PS_WORKER; did you mean 'PS_WORKERS'?" in capsys.readouterr().err
