"""Promises of an attacker: it does what is planned to whom it may, leaves some alone, and undoes what it can."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from ps.chaos import attacker as module
from ps.chaos.attacker import Attacker
from ps.chaos.plan import Action, Fault
from ps.chaos.victim import identity
from ps.errors import ConfigError, ConnectTimeout


class Dummy:
    """A victim that notes what is done to it."""

    did: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, role: str, row: dict[str, Any], realm: str) -> None:
        self.role, self.rank, self.pid, self.identity = role, row["rank"], row["pid"], identity(row)
        if row.get("elsewhere"):
            raise ConfigError("it is not on this host")

    def signal(self, signum: int) -> str:
        self.did.append((self.pid, signum))
        return ""

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def dummies(monkeypatch: pytest.MonkeyPatch) -> None:
    Dummy.did = []
    monkeypatch.setattr(module, "Victim", Dummy)


class Night:
    """A job whose time passes when somebody sleeps."""

    def __init__(self, workers: int, **more: Any) -> None:
        self.now, self.said = 0.0, list[dict[str, Any]]()
        rows = [{"rank": rank, "pid": 100 + rank, "state": "live", **more} for rank in range(workers)]
        self.status: dict[str, Any] = {"phase": "running", "workers": rows, "scheduler": {"rank": 0, "pid": 99}}

    def attack(self, plan: Iterator[Fault], duration: float, roles: str = "worker", **how: Any) -> str:
        def sleep(seconds: float) -> None:
            self.now += seconds

        found = Attacker(
            lambda: self.status, roles.split(","), 1, self.said.append, now=lambda: self.now, sleep=sleep, **how
        )
        return found.run(plan, duration)


def plan(*actions: Action, apart: float = 1.0, seconds: float = 2.0) -> Iterator[Fault]:
    return (Fault((n + 1) * apart, action, 0.0, seconds) for n, action in enumerate(actions))


def test_what_is_stopped_goes_on_when_its_time_is_over_and_none_is_harmed_twice_meanwhile() -> None:
    night = Night(3)
    assert night.attack(plan("stop", "stop"), 10.0) == "10 s are over"
    stops = [(100, signal.SIGSTOP), (101, signal.SIGSTOP)]
    assert Dummy.did == [*stops, (100, signal.SIGCONT), (101, signal.SIGCONT)]
    assert [entry["action"] for entry in night.said] == ["stop", "stop", "resume", "resume"]


def test_some_are_left_alone() -> None:
    night = Night(2)
    night.attack(plan("stop", "kill", apart=0.5), 1.5)
    assert Dummy.did == [(100, signal.SIGSTOP), (100, signal.SIGCONT)]
    assert night.said[1]["done"] is False and "--least" in night.said[1]["why"]


def test_who_was_killed_counts_no_more_although_the_scheduler_has_not_noticed_yet() -> None:
    night = Night(3)
    night.attack(plan("kill", "kill", "kill", apart=0.1), 1.0)
    assert Dummy.did == [(100, signal.SIGKILL), (101, signal.SIGKILL)]
    assert [entry["done"] for entry in night.said] == [True, True, False]


def test_a_slow_one_runs_a_part_of_the_time_and_ends_running() -> None:
    Night(2).attack(plan("slow", seconds=1.0), 5.0)
    signals = [signum for _, signum in Dummy.did]
    assert signals[0] == signal.SIGSTOP and signals[-1] == signal.SIGCONT
    assert 6 <= signals.count(signal.SIGSTOP) <= 20


def test_a_dry_run_says_all_and_does_nothing_and_takes_no_time() -> None:
    night = Night(3)
    night.attack(itertools.islice(plan(*["kill"] * 50), 50), 20.0, dry=True)
    assert Dummy.did == [] and night.now == 0.0
    assert len(night.said) == 20 and all(entry["why"] == "dry run" for entry in night.said)


def test_it_ends_with_the_job_and_whatever_ends_it_lets_all_go_on() -> None:
    night = Night(3)

    def until_interrupted() -> Iterator[Fault]:
        yield Fault(1.0, "stop", 0.0, 100.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        night.attack(until_interrupted(), 50.0)
    assert Dummy.did == [(100, signal.SIGSTOP), (100, signal.SIGCONT)]
    night.status["phase"] = "ended"
    assert night.attack(plan("kill"), 50.0) == "the job has ended"


def test_who_is_on_another_host_is_named_and_left_alone() -> None:
    night = Night(2, elsewhere=True)
    night.attack(plan("kill"), 5.0)
    assert night.said == [
        {"at": 1.0, "action": "kill", "role": "worker", "rank": 0, "done": False, "why": "it is not on this host"}
    ]


def test_a_scheduler_that_is_away_for_a_while_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    night, asked = Night(3), itertools.count()

    def fetch() -> dict[str, Any]:
        if 0 < next(asked) < 3:
            raise ConnectTimeout("nobody")
        return night.status

    def sleep(seconds: float) -> None:
        night.now += seconds

    found = Attacker(fetch, ["scheduler"], 1, night.said.append, now=lambda: night.now, sleep=sleep)
    assert found.run(plan("kill", "kill", "kill", apart=0.5), 4.0) == "4 s are over"
    assert [entry["done"] for entry in night.said].count(True) >= 1
    assert (99, signal.SIGKILL) in Dummy.did
