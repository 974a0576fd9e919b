"""Promises of the cases: each run gets the settings that mean something in it, and nothing that leads it elsewhere."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ps.compare.case import NAMES, Case, cases, fitted, with_victims
from ps.config import JobConfig
from ps.errors import ConfigError, UsageError
from ps.script import Script


def by_name(explicit: dict[str, Any], **given: Any) -> dict[str, Case]:
    return {case.name: case for case in cases(explicit, **given)}


def test_all_paradigms_are_run_in_one_order() -> None:
    assert tuple(case.name for case in cases({})) == NAMES


def test_only_what_is_wanted_is_run() -> None:
    assert [case.name for case in cases({}, only=("ssp", "centralized"))] == ["centralized", "ssp"]
    with pytest.raises(UsageError, match="--only sinc: there is no such run; expected some of centralized,sync"):
        cases({}, only=("sinc",))


@pytest.mark.parametrize(("name", "instead"), [("mode", "--only"), ("partition", "--non-iid")])
def test_what_the_comparison_varies_cannot_be_set(name: str, instead: str) -> None:
    with pytest.raises(UsageError, match=instead):
        cases({name: "x"})


def test_settings_of_one_mode_go_to_that_mode_only() -> None:
    explicit = {"staleness": 5, "backup_workers": 1, "staleness_scaling": True, "rounds": 7, "algorithm": "fedprox"}
    found = by_name(explicit | {"clients_per_round": 3, "seed": 9})
    holders = {key: [name for name, case in found.items() if key in case.job] for key in (*explicit, "seed")}
    federated = ["federated-iid", "federated-non-iid"]
    assert holders == {
        "staleness": ["ssp"],
        "backup_workers": ["sync"],
        "staleness_scaling": ["async"],
        "rounds": federated,
        "algorithm": federated,
        "seed": list(NAMES),
    }


def test_every_job_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    explicit = {"backup_workers": 1, "overlap": True, "transport": "shm", "aggregator": "median", "optimizer": "adam"}
    for case in cases(explicit):
        if not case.impossible:
            JobConfig(**case.job).check()


def test_the_script_alone_gets_its_settings_from_the_environment() -> None:
    case = by_name({"optimizer": "adam:lr=0.01", "workers": 8, "eval_every": 7})["centralized"]
    base = {"PS_SCHEDULER": "tcp://a:1", "PS_RUN_DIR": "elsewhere", "PS_DATA": "/sets", "PS_LIFELINE_FD": "3", "X": "y"}
    env = case.environment(base, "here", "/a.toml", 2)
    assert env["PS_OPTIMIZER"] == "adam:lr=0.01"
    assert env["PS_RUN_DIR"] == "here"
    assert env["PS_EVAL_EVERY"] == "7"
    assert env["PS_CONFIG"] == "/a.toml"
    assert (env["PS_DATA"], env["X"], env["OPENBLAS_NUM_THREADS"]) == ("/sets", "y", "2")
    assert not {"PS_SCHEDULER", "PS_LIFELINE_FD", "PS_WORKERS"} & set(env)
    assert case.command(Script("a.py"), ("-x", "1"), "here") == [sys.executable, "a.py", "-x", "1"]


def test_the_others_are_given_flags_and_no_settings_from_the_environment() -> None:
    case = by_name({"workers": 8}, clients=12, non_iid="dirichlet:0.3")["federated-non-iid"]
    line = case.command(Script("a.py"), ("--mode", "x"), "here", ("psctl",))
    own, script = line[: line.index("--")], line[line.index("--") :]
    assert script == ["--", "a.py", "--mode", "x"]
    pairs = dict(zip(own[2::2], own[3::2], strict=True))
    assert (pairs["--workers"], pairs["--mode"], pairs["--partition"]) == ("12", "federated", "dirichlet:0.3")
    assert pairs["--run-dir"] == "here"
    assert "PS_MODE" not in case.environment({"PS_MODE": "ssp"}, "here", "", 2)


def test_as_many_examples_lie_between_two_evaluations_of_one_process_as_of_many() -> None:
    found = by_name({"workers": 4, "eval_every": 20})
    assert [found[name].job["eval_every"] for name in ("centralized", "sync", "async", "ssp")] == [20, 5, 5, 5]
    assert found["federated-iid"].job["eval_every"] == 1
    assert by_name({"rounds": 500})["federated-iid"].job["eval_every"] == 10


def test_victims_are_the_same_for_the_same_seed_and_spare_who_evaluates() -> None:
    for case in cases({"workers": 4}, clients=20):
        drawn = [with_victims(case, 0.3, seed).victims for seed in range(30)]
        assert drawn == [with_victims(case, 0.3, seed).victims for seed in range(30)]
        if case.paradigm == "centralized":
            assert set(drawn) == {(0,)}
            continue
        assert len(set(drawn)) > 1
        assert {len(victims) for victims in drawn} == ({6} if case.paradigm == "federated" else {1})
        assert all(0 not in victims and max(victims) < case.participants for victims in drawn)


def test_a_run_with_victims_is_told_from_the_one_without() -> None:
    case = cases({})[1]
    assert with_victims(case, 0.3, 0).name == "sync-dropout"
    assert with_victims(case, 0.3, 0).job == case.job


def test_a_run_that_is_not_wanted_refuses_only_what_no_wanted_one_heeds() -> None:
    # A federation of ten closes with five, of which krum:3 is not enough: that is no reason not to compare the others.
    assert [case.name for case in cases({"workers": 9, "aggregator": "krum:3"}, only=["sync"])] == ["sync"]
    with pytest.raises(ConfigError, match=r"the run federated-iid: .*krum:3"):
        cases({"workers": 9, "aggregator": "krum:3"})
    with pytest.raises(ConfigError, match="the run sync: backup_workers = 99"):
        cases({"backup_workers": 99}, only=["centralized"])


def test_what_a_pipeline_cannot_have_leaves_it_out_and_nothing_else() -> None:
    found = by_name({"compress": "int8"})
    assert "compress = int8 cannot be had with mode = pipeline" in found["pipeline"].impossible
    assert not any(case.impossible for name, case in found.items() if name != "pipeline")
    assert "4 workers are one pipeline" in by_name({"workers": 6, "stages": 4})["pipeline"].impossible
    with pytest.raises(ConfigError, match=r"the run pipeline: compress = int8"):
        cases({"compress": "int8"}, only=["pipeline"])


def test_a_pipeline_is_evaluated_after_as_many_examples_as_one_process() -> None:
    assert by_name({"workers": 4, "eval_every": 20})["pipeline"].job["eval_every"] == 20
    assert by_name({"workers": 8, "stages": 4, "eval_every": 20})["pipeline"].job["eval_every"] == 10


def test_a_model_with_fewer_layers_than_workers_gets_several_pipelines() -> None:
    case = by_name({"workers": 4, "eval_every": 20})["pipeline"]
    assert fitted(case, 9) is case
    two = fitted(case, 3)
    assert (two.job["stages"], two.job["eval_every"], two.title) == (2, 10, "Model parallel, 2 stages")
    JobConfig(**two.job).check()


def test_a_model_that_cannot_be_dealt_out_is_told_why() -> None:
    case = by_name({"workers": 4})["pipeline"]
    assert fitted(case, 0).impossible == (
        "the script's model is no list of layers that could be dealt out. Make it a ps.Pipeline"
    )
    assert (
        "3 layers, and 5 workers are no whole number of pipelines"
        in fitted(by_name({"workers": 5})["pipeline"], 3).impossible
    )
    assert fitted(by_name({"stages": 4})["pipeline"], 3).impossible.endswith("4 stages. Try: --stages 3")
    sync = by_name({})["sync"]
    assert fitted(sync, 0) is sync
