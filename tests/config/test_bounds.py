"""Promises of every number that anybody can set: it has two ends, each end works, and what lies beyond is named."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import ps
from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.cli.app import psctl, run_command
from ps.cli.help import HelpfulGroup
from ps.cli.value import Value
from ps.compress import CODECS
from ps.config import JobConfig, ProcessConfig, Setting, find_toml, job_from, load, merge, settings_of
from ps.config.values import SIZE
from ps.errors import ConfigError
from ps.number import MOST_COMPARED, MOST_WORKERS, Range
from ps.optim import OPTIMIZERS, SCHEDULES
from ps.partition import PARTITIONERS
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Welcome
from ps.server.scheduler.service import LONGEST
from ps.simulate.availability import AVAILABILITIES
from ps.simulate.speed import BANDWIDTHS, SPEEDS
from ps.spec import Registry

REGISTRIES: list[Registry[Any]] = [
    *(AGGREGATORS, ALGORITHMS, AVAILABILITIES, BANDWIDTHS, CODECS, OPTIMIZERS, PARTITIONERS, SCHEDULES, SPEEDS)
]
CLASSES = [JobConfig, ProcessConfig]
NUMBERS = [(cls, row) for cls in CLASSES for row in settings_of(cls).values() if row.kind.is_number]
SETTINGS = {*settings_of(JobConfig), *settings_of(ProcessConfig)}
PARAMETERS = [
    (registry, name, field)
    for registry in REGISTRIES
    for name in registry
    for field in dataclasses.fields(registry[name])
]


def name_of(value: Any) -> str:
    return value.name if isinstance(value, Setting | dataclasses.Field) else getattr(value, "kind", str(value))


def ends(row: Setting) -> Iterator[tuple[Any, Any]]:
    """Yield the least and the greatest value of a setting, each with one that lies just beyond."""
    whole = row.kind.read is not settings_of(JobConfig)["over_select"].kind.read
    assert row.high is not None
    if row.low is not None:
        yield row.low, row.low - 1 if whole else math.nextafter(row.low, -math.inf)
    else:
        assert row.above is not None
        yield math.nextafter(row.above, math.inf), row.above
    yield row.high, row.high + 1 if whole else math.nextafter(row.high, math.inf)


def as_text(row: Setting, value: Any) -> str:
    return str(value) if row.kind is SIZE else row.show(value)


@pytest.mark.parametrize(("cls", "row"), NUMBERS, ids=name_of)
def test_a_setting_that_is_a_number_has_two_ends(cls: type, row: Setting) -> None:
    assert row.high is not None and math.isfinite(row.high)
    assert any(low is not None and math.isfinite(low) for low in (row.low, row.above))
    assert (row.optional and row.default is None) or row.allows(row.default)


def test_a_setting_without_an_end_cannot_be_declared() -> None:
    from ps.config.setting import setting

    @dataclasses.dataclass
    class Open:
        number: int = setting(1, "a number", low=0)

    with pytest.raises(TypeError, match="number is a number without"):
        settings_of(Open)


@pytest.mark.parametrize(("registry", "name", "field"), PARAMETERS, ids=name_of)
def test_a_number_of_a_spec_has_two_ends_and_each_of_them_works(
    registry: Registry[Any], name: str, field: dataclasses.Field[Any]
) -> None:
    allowed: Range = field.metadata["range"]
    low, high = max(allowed.at_least, allowed.above), min(allowed.at_most, allowed.below)
    assert math.isfinite(low) and math.isfinite(high) and low < high
    needed = {
        each.name: max(1.0, each.metadata["range"].at_least)
        for each in dataclasses.fields(registry[name])
        if each.default is dataclasses.MISSING
    }
    for end, beyond in ((low, -math.inf), (high, math.inf)):
        outside = end + math.copysign(1, beyond) if allowed.whole else math.nextafter(end, beyond)
        text = ",".join(f"{key}={value!r}" for key, value in {**needed, field.name: outside}.items())
        with pytest.raises(ConfigError, match=f"{field.name}="):
            registry.parse(f"{name}:{text}")
        if end in allowed:
            spec = registry.spec(name, {**needed, field.name: end})
            assert registry.parse(str(spec)) == spec
            spec.build()


def test_a_number_without_declared_ends_has_ours() -> None:
    assert -1e12 in Range() and 1e12 in Range()
    assert 1.1e12 not in Range() and -1.1e12 not in Range()


@pytest.mark.parametrize(("cls", "row"), NUMBERS, ids=name_of)
def test_files_variables_flags_and_scripts_refuse_alike_what_lies_beyond(
    cls: type[Any], row: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for fine, beyond in ends(row):
        text, number = as_text(row, beyond), beyond
        assert merge(cls, flags={row.name: as_text(row, fine)})[0] == {row.name: fine}
        assert merge(cls, env={row.env: as_text(row, fine)})[0] == {row.name: fine}
        (tmp_path / "fine.toml").write_text(f"{row.name} = {fine!r}")
        assert merge(cls, toml=find_toml({}, str(tmp_path / "fine.toml")).values)[0] == {row.name: fine}
        assert merge(cls, script={row.name: fine})[0] == {row.name: fine}
        (tmp_path / "beyond.toml").write_text(f"{row.name} = {number!r}")
        if -(1 << 63) <= number < 1 << 63:
            assert psctl_says(["config", "--config", str(tmp_path / "beyond.toml")], capsys) == (2, row.name)
        assert psctl_says(["config", f"{row.flag}={text}"], capsys) == (2, row.name)
        with monkeypatch.context() as patch:
            patch.setenv(row.env, text)
            assert psctl_says(["config"], capsys) == (2, row.name)
        if cls is JobConfig:
            with pytest.raises(ConfigError, match=rf"^{row.name} = "), ps.connect(**{row.name: beyond}):
                raise AssertionError
    with pytest.raises(ConfigError, match=rf"^{row.name} = .* must be"):
        merge(cls, flags={row.name: 10**5000})


def psctl_says(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command of psctl in this process; return its exit code and the setting that its one line names."""
    code = run_command(argv)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return code, lines[0].removeprefix("psctl: error: ").partition(" ")[0]


def test_settings_at_their_ends_can_be_told_to_others() -> None:
    rows = [row for cls, row in NUMBERS if cls is JobConfig]
    for which in (0, 1):
        job = JobConfig(**{row.name: list(ends(row))[which][0] for row in rows}).to_dict()
        welcome = Welcome(0, 1, 2, 3.0, job)
        assert decode(encode(welcome)) == welcome


@pytest.mark.parametrize(
    "text", ["٣", "1_000", "", " ", "1e3", "0x10", "1.0", "３", "+-1", "1 000", "9" * 5000, "nan", "one"]
)
def test_a_whole_number_is_written_in_the_digits_0_to_9(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^workers = .* must be a whole number, at least 1"):
        merge(JobConfig, flags={"workers": text})


@pytest.mark.parametrize("text", ["٣.5", "1_0.5", "1e", "0x1p3", "infinity", "1e400", "9" * 400, "1,5", "-"])
def test_a_number_is_finite_and_written_in_the_digits_0_to_9(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^over_select = .* must be a finite number"):
        merge(JobConfig, flags={"over_select": text})
    with pytest.raises(ConfigError):
        OPTIMIZERS.parse(f"sgd:lr={text}")


@pytest.mark.parametrize("text", ["a\nb", "a b", "a\0", "x" * 256, " ", "a\x1b[31m"])
def test_a_host_is_one_word(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^host = "):
        load(ProcessConfig, flags={"host": text})


def test_texts_are_bounded() -> None:
    for name in ("optimizer", "schedule", "partition", "local_optimizer"):
        with pytest.raises(ConfigError, match=f"^{name} = .* must be a text") as refused:
            job_from({name: "sgd:lr=0.1" + " " * 1000})
        assert len(str(refused.value)) < 300


def options() -> Iterator[tuple[str, click.Parameter]]:
    waiting: list[tuple[str, click.Command]] = [("psctl", psctl)]
    while waiting:
        path, command = waiting.pop()
        if isinstance(command, click.Group):
            assert isinstance(command, HelpfulGroup)
            waiting += [(f"{path} {name}", each) for name, each in command.load().items()]
        yield from ((path, param) for param in command.params)


def test_options_that_are_numbers_have_two_ends_too() -> None:
    found = []
    for path, param in options():
        if isinstance(param.type, Value) and param.type.row.kind.is_number:
            row = param.type.row
            assert row.high is not None and math.isfinite(row.high) and (row.low, row.above) != (None, None), path
            found.append(f"{path} {param.opts[0]}")
            name, (_, beyond) = param.name or "", list(ends(row))[-1]
            with pytest.raises(ConfigError, match=rf"^{name} = .* \(flag {param.opts[0]}\): must be"):
                param.type.convert(row.show(beyond), param, None)
        else:
            kinds = click.types.IntParamType | click.types.FloatParamType
            assert not isinstance(param.type, kinds), f"{path} {param.opts}: use ps.cli.value"
            if getattr(param, "metavar", "") in ("FILE", "PATH", "DIR") and isinstance(param, click.Option):
                assert (param.name or "") in SETTINGS or isinstance(param.type, Value), f"{path} {param.opts}"
    assert {"psctl simulate --clients", "psctl compare --drop", "psctl ping --timeout"} < {*found}


@pytest.mark.skipif(sys.platform != "linux", reason="a process of its own per worker")
def test_no_more_processes_are_started_than_a_machine_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["run", "-m", "ps.examples.demo"], ["demo"]):
        code = run_command([command[0], "-w", "1000", *command[1:]])
        assert code == 2 and "at most 1000 are started on one machine" in capsys.readouterr().err


def test_a_job_has_no_more_members_and_contributions_than_can_be_told_of() -> None:
    with pytest.raises(ConfigError, match=rf"workers = {MOST_WORKERS + 1} .*at most {MOST_WORKERS} know each other"):
        load(JobConfig, flags={"workers": MOST_WORKERS + 1})
    assert load(JobConfig, flags={"workers": MOST_WORKERS}).config.workers == MOST_WORKERS
    many = {"mode": "federated", "workers": 10_001}
    with pytest.raises(ConfigError, match=r"workers = 10001 .*at most 10000 contributions.*--clients-per-round"):
        load(JobConfig, flags=many)
    assert load(JobConfig, flags={**many, "clients_per_round": 10_000}).config.goal == 10_000


@pytest.mark.parametrize("fields", [{"aggregator": "geomedian"}, {"aggregator": "krum:1", "algorithm": "fedbuff:1001"}])
def test_no_more_contributions_are_compared_than_their_distances_can_be_sent(fields: dict[str, Any]) -> None:
    many = {"mode": "federated", "workers": MOST_COMPARED + 1, "min_clients": 10, **fields}
    with pytest.raises(ConfigError, match=rf"compares .* at most {MOST_COMPARED} of them"):
        load(JobConfig, flags=many)
    assert 8 * MOST_COMPARED**2 <= LONGEST
    fewer = {"aggregator": "geomedian", "clients_per_round": MOST_COMPARED}
    assert load(JobConfig, flags={**many, "algorithm": "fedavg", **fewer}).config.goal == MOST_COMPARED
