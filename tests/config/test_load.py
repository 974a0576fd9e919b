"""Promises of ps.config: four spellings, one precedence, errors that name key, value, source and remedy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.config import (
    JobConfig,
    ProcessConfig,
    Toml,
    env_of,
    explicit_job,
    flags_of,
    job_from,
    load,
    merge,
    process_from_env,
    settings_of,
)
from ps.config.checkpoint import EVERY
from ps.config.values import BOOL
from ps.errors import ConfigError

SOURCES = ("script", "toml", "env", "flags")
LABELS = {
    "script": "script",
    "toml": "paramserver.toml",
    "env": "env PS_STALENESS",
    "flags": "flag --staleness",
}


@given(st.dictionaries(st.sampled_from(SOURCES), st.integers(0, 99)))
def test_the_strongest_source_that_sets_a_value_wins_and_is_named(given_by: dict[str, int]) -> None:
    sources: dict[str, Any] = {where: {"staleness": value} for where, value in given_by.items()}
    if "env" in given_by:
        sources["env"] = {"PS_STALENESS": str(given_by["env"])}
    values, labels = merge(JobConfig, **sources)
    strongest = max(given_by, key=SOURCES.index, default=None)
    if strongest is None:
        assert "staleness" not in values
    else:
        assert values["staleness"] == given_by[strongest]
        assert labels["staleness"] == LABELS[strongest]


@pytest.mark.parametrize("cls", [JobConfig, ProcessConfig])
def test_every_setting_has_all_spellings(cls: type) -> None:
    for name, row in settings_of(cls).items():
        assert row.flag == "--" + (name.removesuffix("s") if row.repeats else name).replace("_", "-")
        assert row.env == "PS_" + name.upper()
        text = (
            row.choices[-1]
            if row.choices
            else {"N": "1" if row.high == 1 else "3", "X": "2.5", "": "true", "SIZE": "16MiB"}.get(
                row.kind.metavar,
                {"DEVICE": "cuda:1", "ADDRESS": "tcp://a:1"}.get(row.kind.metavar, "7" if row.kind is EVERY else "x"),
            )
        )
        by_env, _ = merge(cls, env={row.env: text})
        by_flag, _ = merge(cls, flags={name: text})
        by_toml, _ = merge(cls, toml={name.replace("_", "-"): by_env[name]})
        by_toml_text, _ = merge(cls, toml={name: text})
        assert by_env == by_flag == by_toml == by_toml_text
        assert merge(cls, env=env_of(cls, by_env))[0] == by_env
        flags = flags_of(cls, by_env)
        assert flags == ([row.flag] if row.kind is BOOL else [row.flag, row.show(by_env[name])])


def test_defaults_are_allowed_values_and_survive_a_round_trip() -> None:
    job = load(JobConfig)
    assert job.config == JobConfig()
    assert set(job.sources.values()) == {"default"}
    assert JobConfig.from_dict(job.config.to_dict()) == job.config
    assert process_from_env(ProcessConfig(rank=3, device="cuda:1").to_env()) == ProcessConfig(rank=3, device="cuda:1")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("1MiB", 1 << 20),
        ("512k", 1 << 19),
        ("1.5 MiB", 3 << 19),
        ("1MB", 10**6),
        ("32M", 32 << 20),
    ],
)
def test_sizes_are_read_with_units(text: str, size: int) -> None:
    assert merge(JobConfig, flags={"chunk_size": text})[0]["chunk_size"] == size


@pytest.mark.parametrize("text", ["big", "1TiB", "-1", "1.0001k", "1023", "33MiB", "", "0x400", "1iB"])
def test_sizes_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"chunk_size = .* must be a number of bytes"):
        merge(JobConfig, flags={"chunk_size": text})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a", "tcp://a:7070"),
        ("a:1", "tcp://a:1"),
        ("tcp://10.0.0.1:80", "tcp://10.0.0.1:80"),
        ("[::1]:80", "tcp://[::1]:80"),
    ],
)
def test_addresses_are_completed(text: str, address: str) -> None:
    assert process_from_env({"PS_SCHEDULER": text}).scheduler == address


@pytest.mark.parametrize("text", ["tcp://", "a:0", "a:99999", "http://a:1", "a b", "a:x", "ipc://"])
def test_addresses_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"scheduler = .*env PS_SCHEDULER.*must be an address"):
        process_from_env({"PS_SCHEDULER": text})


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"toml": {"stalenes": 1}}, "paramserver.toml: unknown setting 'stalenes'; did you mean 'staleness'"),
        ({"toml": {"job": {"mode": "ssp"}}}, "settings stand at the top level"),
        ({"toml": {"chunk-size": 4096, "chunk_size": 4096}}, "set twice"),
        ({"toml": {"workers": 2.5}}, r"workers = 2.5 \(paramserver.toml\): must be a whole number, at least 1"),
        ({"toml": {"workers": True}}, "must be a whole number"),
        ({"env": {"PS_MDOE": "ssp"}}, "unknown environment variable PS_MDOE; did you mean 'PS_MODE'"),
        (
            {"env": {"PS_MODE": "asink"}},
            r"mode = 'asink' \(env PS_MODE\): must be one of sync.*did you mean 'async'",
        ),
        ({"script": {"optimiser": "sgd"}}, "'optimiser' in the script; did you mean 'optimizer'"),
        ({"script": {"scheduler": "a:1"}}, "set by --scheduler or PS_SCHEDULER"),
        ({"flags": {"workers": "0"}}, r"workers = '0' \(flag --workers\): must be a whole number, at least 1"),
        ({"flags": {"clip_norm": "0"}}, r"at least 1e-30 and at most 1e\+30"),
        ({"flags": {"heartbeat_timeout": "nan"}}, "must be a finite number, at least 0.1 and at most 1000000000"),
        ({"flags": {"heartbeat_timeout": "inf"}}, "must be a finite number"),
        ({"flags": {"staleness_scaling": "maybe"}}, "must be true or false"),
    ],
)
def test_bad_keys_and_values_are_refused_in_words(sources: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        merge(JobConfig, **sources)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"clip_norm": 1.0, "clip_value": 1.0}, "clip_norm = 1.0 .* and clip_value = 1.0 .*: clip by the one"),
        ({"workers": 4, "clip_norm": 1.0, "backup_workers": 1}, "clip_norm = 1.0 .* needs backup_workers = 0"),
        ({"workers": 2, "backup_workers": 2}, r"backup_workers = 2 \(flag .*must be less than workers = 2"),
        ({"workers": "2:8", "backup_workers": 2}, r"backup_workers = 2 \(flag .*must be less than min_workers = 2"),
        ({"workers": "8:2"}, r"min_workers = 8 \(flag --workers\) must be at most workers = 2"),
        ({"workers": "2:8", "mode": "federated"}, "min_workers = 2 .* --min-clients"),
        ({"workers": "2:8", "mode": "pipeline"}, "min_workers = 2 .* --spares"),
        ({"workers": "2:8", "aggregator": "krum:1"}, "needs at least 5 workers, but there are min_workers = 2"),
        ({"workers": 2, "backup_workers": 1, "mode": "ssp"}, "backup_workers = 1 .* needs mode = sync"),
        ({"window": "512k"}, r"window = 512KiB \(flag --window\) must be at least chunk_size = 4MiB"),
        ({"optimizer": "sdg:lr=1"}, "optimizer = 'sdg:lr=1' .flag --optimizer.*"),
        ({"schedule": "cosinus"}, "schedule = 'cosinus'"),
        ({"compress": "int4"}, r"compress = 'int4' \(flag --compress\): unknown compress 'int4'; did you mean 'int8'"),
        ({"compress": "topk:2"}, r"compress = 'topk:2' .*ratio=2.0 must be"),
        (
            {"compress": "topk:0.01,momentum=0.9", "optimizer": "momentum:lr=0.1"},
            r"compress = .*flag --compress.* keeps momentum at the workers and needs optimizer = sgd, "
            r"but optimizer = momentum:lr=0.1 \(flag",
        ),
        ({"compress": "topk:momentum=0.5", "optimizer": "adam"}, "needs optimizer = sgd, but optimizer = adam"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(JobConfig, flags=flags)


@pytest.mark.parametrize(
    ("compress", "optimizer"),
    [("topk:0.01,momentum=0.9", "sgd:lr=0.5"), ("topk:0.01", "adam"), ("int8", "momentum"), (" none", "lion")],
)
def test_compression_goes_with_any_optimizer_unless_both_keep_momentum(compress: str, optimizer: str) -> None:
    job = load(JobConfig, flags={"compress": compress, "optimizer": optimizer}).config
    assert JobConfig.from_dict(job.to_dict()) == job


def test_variables_of_other_programs_are_left_alone() -> None:
    env = {
        "PS_FORMAT": "pid,comm",
        "PS_PERSONALITY": "bsd",
        "PS_SCHEDULER_SERVICE_HOST": "10.0.0.1",
        "PS_SERVER_PORT_7070_TCP": "tcp://10.0.0.1:7070",
        "PATH": "/bin",
    }
    assert merge(JobConfig, env=env) == ({}, {})


@pytest.mark.parametrize("source", ["flags", "env", "toml", "script"])
def test_a_range_of_workers_is_the_least_and_the_most_in_every_spelling(source: str) -> None:
    given = {"PS_WORKERS": "2:8"} if source == "env" else {"workers": "2:8"}
    found = load(JobConfig, **{source: given})
    assert (found.config.min_workers, found.config.workers, found.config.fewest) == (2, 8, 2)
    assert found.sources["min_workers"] == found.sources["workers"] != "default"
    assert JobConfig.from_dict(found.config.to_dict()) == found.config


def test_one_number_takes_the_place_of_a_range_that_is_weaker() -> None:
    found = load(JobConfig, toml={"workers": "2:8"}, flags={"workers": "4"})
    assert (found.config.min_workers, found.config.workers) == (None, 4)
    assert found.sources["min_workers"] == "default"
    assert job_from({"workers": 4}, {"workers": "2:8"}).min_workers is None
    both = load(JobConfig, toml={"min_workers": 3}, flags={"workers": "4"})
    assert both.config.min_workers == 3, "said by itself it stays"


@pytest.mark.parametrize("text", ["2:", ":8", "2:8:9", "2-8", "0:8", "a:b", "2:99999999999"])
def test_what_is_no_range_of_workers_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="workers"):
        load(JobConfig, flags={"workers": text})


def test_an_empty_variable_is_not_set() -> None:
    assert merge(JobConfig, env={"PS_MODE": "", "PS_WORKERS": " "}) == ({}, {})


def test_what_other_launchers_set_suggests_a_rank() -> None:
    assert process_from_env({"SLURM_PROCID": "5"}).suggested_rank == 5
    assert process_from_env({"JOB_COMPLETION_INDEX": "7", "RANK": "2"}).suggested_rank == 2
    assert process_from_env({"RANK": "first"}).suggested_rank is None
    process = process_from_env({"RANK": "2", "PS_RANK": "1"})
    assert (process.rank, process.suggested_rank) == (1, 2)
    assert process_from_env({"RANK": "2"}).rank is None  # nobody demands it
    assert process_from_env({"LOCAL_RANK": "1"}).local_rank == 1


def test_explicit_job_holds_only_what_was_really_set() -> None:
    toml = Toml("job.toml", {"optimizer": "adam", "device": "cpu"})
    assert explicit_job({"mode": "ssp"}, {"PS_WORKERS": "4"}, toml) == {
        "mode": "ssp",
        "workers": 4,
        "optimizer": "adam",
    }


def test_explicit_settings_win_over_the_scripts() -> None:
    job = job_from({"mode": "ssp"}, {"mode": "async", "staleness": "7", "chunk_size": "4k"})
    assert (job.mode, job.staleness, job.chunk_bytes) == ("ssp", 7, 4096)


@pytest.mark.parametrize(
    ("given", "mib"),
    [
        ({}, 4),
        ({"transport": "tcp"}, 2),
        ({"compress": "int8"}, 2),
        ({"transport": "shm"}, 32),
        ({"transport": "shm", "aggregator": "weighted", "mode": "sync"}, 32),
        ({"transport": "shm", "overlap": "true"}, 4),
        ({"transport": "shm", "replicas": "1"}, 4),
        ({"transport": "shm", "workers": "3", "aggregator": "median"}, 4),
        ({"mode": "federated", "transport": "tcp"}, 1),
    ],
)
def test_chunks_are_as_large_as_a_step_wants_them(given: dict[str, Any], mib: int) -> None:
    assert job_from({}, given).chunk_bytes == mib << 20


def test_a_window_smaller_than_a_chunk_is_for_what_travels_as_it_is_cut_here() -> None:
    assert job_from({}, {"transport": "shm", "window": "1k"}).chunk_bytes == 32 << 20
    resumed = {"transport": "tcp", "resume": "ckpt", "chunk_size": "32m"}  # of a job in shared memory
    assert job_from({}, resumed).window < 32 << 20


def test_a_scripts_backup_workers_do_not_stop_it_from_running_in_another_mode() -> None:
    script = {"backup_workers": 1}
    assert job_from({"workers": 4}, script).backup_workers == 1
    assert job_from({"workers": 4, "mode": "async"}, script).backup_workers == 0
    with pytest.raises(ConfigError, match="needs mode = sync"):
        job_from({"workers": 4}, {"mode": "async", "backup_workers": 1})


def test_an_unknown_setting_from_the_scheduler_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not know"):
        JobConfig.from_dict({"warp": 9})


@pytest.mark.parametrize("service", ["PS", "PS_0"])
def test_a_kubernetes_service_named_as_our_variables_begin_is_no_setting(service: str) -> None:
    env = {f"{service}_PORT": "tcp://10.96.0.17:7070", f"{service}_SERVICE_HOST": "10.96.0.17"}
    loaded = load(ProcessConfig, env={**env, f"{service}_PORT_7070_TCP": "tcp://10.96.0.17:7070"})
    assert loaded.config.port == 0 and "port" not in loaded.given()


def test_a_port_that_is_none_is_still_refused() -> None:
    with pytest.raises(ConfigError, match="PS_PORT"):
        load(ProcessConfig, env={"PS_PORT": "tcp://10.96.0.17"})


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0.0.0.0", "*", "::", "::1", "fe80::1%eth0", "node-3.cluster.local", "bücher"]
)
def test_hosts_may_be_names_and_addresses(host: str) -> None:
    assert process_from_env({"PS_HOST": host}).host == host
    assert process_from_env({"PS_HOST": f"[{host}]"}).host == host


@pytest.mark.parametrize("host", ["a\nb", "a b", "tcp://a", "a:7070", "a/b", "h" * 300, "a;b", "-\x00"])
def test_what_is_the_name_of_no_host_is_refused_by_name(host: str) -> None:
    with pytest.raises(ConfigError, match=r"host = .*must be the name or address of this host"):
        load(ProcessConfig, flags={"host": host})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("gate", "tcp://gate"),
        ("gate:31000", "tcp://gate:31000"),
        ("tcp://10.0.0.1:1", "tcp://10.0.0.1:1"),
        ("[fd00::2]:5", "tcp://[fd00::2]:5"),
    ],
)
def test_what_is_advertised_may_name_a_port(text: str, address: str) -> None:
    assert load(ProcessConfig, flags={"advertise": text}).config.advertise == address


@pytest.mark.parametrize("text", ["", "gate:0", "gate:70000", "http://gate", "a\nb", "gate:1/x"])
def test_what_nobody_can_be_reached_at_is_not_advertised(text: str) -> None:
    with pytest.raises(ConfigError, match="advertise"):
        load(ProcessConfig, flags={"advertise": text})
