"""Promises of ps.launch.policy: which end decides what, whatever the order in which ends are noticed."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.launch.members import Members
from ps.launch.policy import Action, Exit, FailurePolicy, Restart, Say, Stop, describe, exit_status

exits = st.builds(Exit, st.just("worker"), st.integers(0, 3), st.sampled_from([0, 1, 3, 4, 8, -9]))


def stops(actions: list[Action]) -> bool:
    return any(isinstance(action, Stop) for action in actions)


def test_the_run_ends_when_the_last_worker_does() -> None:
    policy = FailurePolicy(2, started=True)
    assert policy.on_exits([Exit("worker", 1, 0)]) == []
    assert policy.on_exits([Exit("worker", 0, 0)]) == [Stop()]
    assert policy.status == 0


@given(st.lists(exits, unique_by=lambda exit: exit.rank, min_size=4, max_size=4))
def test_workers_end_the_run_only_together_and_the_first_failure_is_its_status(ends: list[Exit]) -> None:
    policy = FailurePolicy(4, started=True)
    actions = [policy.on_exits([end]) for end in ends]
    assert [stops(each) for each in actions] == [False, False, False, True]
    first = next((end.code for end in ends if end.code), 0)
    assert policy.status == exit_status(first)


@given(st.permutations([Exit("worker", 0, 4), Exit("worker", 1, 4), Exit("server", 0, -9)]))
def test_of_ends_noticed_together_the_servers_is_the_cause(ends: list[Exit]) -> None:
    policy = FailurePolicy(4, started=True)
    assert stops(policy.on_exits(ends))
    assert policy.first == Exit("server", 0, -9)
    assert policy.status == 137


def test_a_server_that_ends_after_the_workers_which_lost_it_is_still_the_cause() -> None:
    policy = FailurePolicy(1, started=True)
    assert stops(policy.on_exits([Exit("worker", 0, 4)]))
    assert policy.blames_another
    policy.on_exits([Exit("server", 1, 1)])
    assert policy.first == Exit("server", 1, 1)
    assert not policy.blames_another


@pytest.mark.parametrize("code", [-9, 143])
def test_a_worker_of_an_elastic_job_that_is_killed_is_started_again_and_then_the_others_go_on(code: int) -> None:
    policy = FailurePolicy(2, started=True, elastic=True, restarts=2)
    for _ in range(2):
        assert Restart("worker", 0) in policy.on_exits([Exit("worker", 0, code)])
    [said] = policy.on_exits([Exit("worker", 0, code)])
    assert isinstance(said, Say) and "1 of 2 workers go on" in said.text
    assert stops(policy.on_exits([Exit("worker", 1, 0)])) and policy.status == 0


def test_all_workers_of_an_elastic_job_killed_at_once_are_started_again() -> None:
    policy = FailurePolicy(3, started=True, elastic=True, restarts=1)
    actions = policy.on_exits([Exit("worker", rank, -9) for rank in range(3)])
    assert [a for a in actions if isinstance(a, Restart)] == [Restart("worker", rank) for rank in range(3)]
    assert not stops(actions)
    actions = policy.on_exits([Exit("worker", rank, -9) for rank in range(3)])
    assert stops(actions) and policy.status == 137, "nobody is left"


@pytest.mark.parametrize("code", [1, 2, 8])
def test_a_script_of_an_elastic_job_that_fails_is_not_started_again(code: int) -> None:
    policy = FailurePolicy(2, started=True, elastic=True)
    assert not [a for a in policy.on_exits([Exit("worker", 0, code)]) if isinstance(a, Restart)]
    assert policy.status == code


def test_nobody_is_started_again_once_a_worker_has_come_to_its_end() -> None:
    policy = FailurePolicy(3, started=True, elastic=True)
    policy.on_exits([Exit("worker", 0, 0)])
    assert not [a for a in policy.on_exits([Exit("worker", 1, -9)]) if isinstance(a, Restart)]


def test_a_server_or_scheduler_that_ends_well_is_nobodys_problem() -> None:
    policy = FailurePolicy(1, started=True)
    assert policy.on_exits([Exit("server", 0, 0), Exit("scheduler", 0, 0)]) == []
    assert policy.status == 0


@pytest.mark.parametrize(("worker", "status"), [(0, 0), (3, 137), (4, 137), (1, 1), (8, 8)])
def test_how_the_training_ends_counts_also_without_its_scheduler(worker: int, status: int) -> None:
    policy = FailurePolicy(1, restart="psctl scheduler", restarts=0, started=True)
    [say] = policy.on_exits([Exit("scheduler", 0, -9)])
    assert isinstance(say, Say)
    assert say.text.endswith("To bring it back: psctl scheduler")
    assert stops(policy.on_exits([Exit("worker", 0, worker)]))
    assert policy.status == status


def test_a_worker_that_was_declared_dead_is_not_waited_for_and_is_the_failure() -> None:
    policy = FailurePolicy(2, started=True)
    [say] = policy.on_members(Members(dead=frozenset({1})))
    assert isinstance(say, Say)
    assert say.text.startswith("worker 1 was declared dead")
    assert policy.on_members(Members(dead=frozenset({1}))) == []
    assert stops(policy.on_exits([Exit("worker", 0, 0)]))
    assert policy.status == 4


def test_a_worker_that_is_declared_dead_after_the_others_have_ended_ends_the_run() -> None:
    policy = FailurePolicy(2, started=True)
    assert not stops(policy.on_exits([Exit("worker", 0, 0)]))
    assert stops(policy.on_members(Members(dead=frozenset({1}))))
    assert policy.status == 4


def test_a_dead_client_may_come_back_while_there_are_rounds() -> None:
    policy = FailurePolicy(2, started=True, federated=True)
    assert not stops(policy.on_members(Members(dead=frozenset({0, 1}))))
    assert policy.on_members(Members()) == []
    assert not stops(policy.on_exits([Exit("worker", 0, 0)]))
    assert stops(policy.on_exits([Exit("worker", 1, 0)]))
    assert policy.status == 0


def test_a_worker_that_fails_before_the_job_begins_ends_it_unless_there_are_enough() -> None:
    policy = FailurePolicy(3, started=True)
    assert policy.on_members(Members(lacking=1)) == [], "nobody of ours has failed"
    assert not stops(policy.on_exits([Exit("worker", 1, -9)]))
    assert not stops(policy.on_members(Members(joined=frozenset({0}))))
    assert stops(policy.on_members(Members(joined=frozenset({0}), lacking=1)))
    assert (policy.status, policy.stopping) == (137, True)


def test_whoever_joined_from_elsewhere_is_waited_for_by_name() -> None:
    policy = FailurePolicy(1, started=True)
    assert policy.on_members(Members(others=("worker 1 (b, pid 7)",))) == []
    [say] = policy.on_exits([Exit("worker", 0, 0)])
    assert isinstance(say, Say)
    assert "waiting for worker 1 (b, pid 7), joined from elsewhere" in say.text
    assert policy.on_members(Members(others=("worker 1 (b, pid 7)",))) == []
    assert policy.on_members(Members()) == [Stop()]
    assert policy.status == 0


@pytest.mark.parametrize("code", [0, 5])
def test_a_scheduler_that_ends_before_it_is_ready_ends_the_run(code: int) -> None:
    policy = FailurePolicy(1)
    assert stops(policy.on_exits([Exit("scheduler", 0, code)]))
    assert policy.status == (code or 1)


def test_a_signal_decides_the_status_and_a_second_one_the_manner() -> None:
    policy = FailurePolicy(1, started=True)
    assert policy.on_signal(signal.SIGINT)[-1] == Stop()
    assert policy.on_signal(signal.SIGINT) == [Stop(now=True)]
    policy.on_exits([Exit("worker", 0, -15)])
    assert policy.first is None
    assert policy.status == 130


def test_exit_codes_are_said_in_words() -> None:
    assert describe(-9) == "killed by SIGKILL"
    assert describe(-99) == "killed by signal 99"
    assert describe(1) == "exit code 1"
    assert describe(7) == "exit code 7: the scheduler or a server said no"


@pytest.mark.parametrize("code", [-9, 1, 4])
def test_a_federated_server_is_started_again_and_its_death_is_no_failure_of_the_run(code: int) -> None:
    policy = FailurePolicy(1, started=True, federated=True)
    say, restart = policy.on_exits([Exit("server", 1, code)])
    assert isinstance(say, Say)
    assert "starting it again" in say.text
    assert "1 of at most 3 times" in say.text
    assert restart == Restart("server", 1)
    assert stops(policy.on_exits([Exit("worker", 0, 0)]))
    assert (policy.first, policy.status) == (None, 0)


@pytest.mark.parametrize("role", ["server", "worker"])
@pytest.mark.parametrize("times", [0, 1, 3])
def test_each_server_and_client_is_started_again_a_bounded_number_of_times(role: str, times: int) -> None:
    policy = FailurePolicy(1, started=True, federated=True, restarts=times)
    for _ in range(times):
        assert policy.on_exits([Exit(role, 0, -9)])[-1] == Restart(role, 0)
    if times:
        for other in (Exit(role, 1, -9), Exit("worker" if role == "server" else "server", 0, -9)):
            assert policy.on_exits([other])[-1] == Restart(other.role, other.rank)
    assert stops(policy.on_exits([Exit(role, 0, -9)]))
    assert policy.first == Exit(role, 0, -9)


def test_a_client_that_is_started_again_has_not_ended_and_is_no_failure_of_the_run() -> None:
    policy = FailurePolicy(2, started=True, federated=True)
    say, restart = policy.on_exits([Exit("worker", 1, -9)])
    assert isinstance(say, Say)
    assert say.text.startswith("worker 1 failed (killed by SIGKILL): starting it again with the state")
    assert restart == Restart("worker", 1)
    assert not stops(policy.on_exits([Exit("worker", 0, 0)]))
    assert stops(policy.on_exits([Exit("worker", 1, 0)]))
    assert (policy.first, policy.status) == (None, 0)


def test_a_script_that_fails_is_run_again_only_if_it_had_come_as_far_as_the_job() -> None:
    """One with a mistake in its first lines would fail again."""
    policy = FailurePolicy(3, started=True, federated=True)
    policy.on_members(Members(joined=frozenset({1})))
    policy.on_members(Members())
    assert policy.on_exits([Exit("worker", 1, 1)])[-1] == Restart("worker", 1)
    [say] = policy.on_exits([Exit("worker", 0, 1)])
    assert isinstance(say, Say)
    assert "2 of 3 workers go on" in say.text


def test_no_client_is_started_again_when_another_has_come_to_the_end_of_the_rounds() -> None:
    policy = FailurePolicy(2, started=True, federated=True)
    policy.on_exits([Exit("worker", 0, 0)])
    assert stops(policy.on_exits([Exit("worker", 1, -9)]))
    assert policy.status == 137


def test_what_is_lost_with_the_last_worker_is_said() -> None:
    policy = FailurePolicy(2, started=True)
    policy.on_members(Members(joined=frozenset({0, 1})))
    policy.on_exits([Exit("worker", 0, 0)])
    say, stop = policy.on_exits([Exit("worker", 1, -9)])
    assert isinstance(say, Say)
    assert say.text.endswith("no worker is left to go on, and what the servers hold of the model ends with this run")
    assert stop == Stop()


@pytest.mark.parametrize("joined", [False, True])
def test_a_client_that_is_started_again_and_comes_too_late_is_not_waited_for(joined: bool) -> None:
    policy = FailurePolicy(2, started=True, federated=True)
    policy.on_members(Members(joined=frozenset({0, 1})))
    policy.on_exits([Exit("worker", 1, -9)])
    policy.on_members(Members(joined=frozenset({0, 1} if joined else {0})))
    assert not stops(policy.on_exits([Exit("worker", 0, 0), Exit("scheduler", 0, 0)]))
    assert stops(policy.on_members(policy._members)) is not joined
    assert policy.status == 0


@pytest.mark.parametrize("code", [0, 4, 9, 11])
def test_who_has_not_come_when_the_job_is_over_is_not_waited_for(code: int) -> None:
    policy = FailurePolicy(3, started=True, federated=True)
    policy.on_exits([Exit("scheduler", 0, code)])
    assert not stops(policy.on_members(Members(joined=frozenset({0, 1}), last=True)))
    assert not stops(policy.on_exits([Exit("worker", 0, 0)])), "another one that has come is still to end"
    assert stops(policy.on_exits([Exit("worker", 1, 0)]))
    assert policy.status == code


def test_a_run_ends_when_its_job_is_over_and_no_client_had_come() -> None:
    policy = FailurePolicy(2, started=True, federated=True)
    policy.on_exits([Exit("scheduler", 0, 4)])
    assert stops(policy.on_members(Members(last=True)))
    assert policy.status == 4


@pytest.mark.parametrize("code", [-9, 1])
def test_where_a_scheduler_may_come_back_or_it_is_not_known_who_had_come_all_are_waited_for(code: int) -> None:
    for members, end in (Members(joined=frozenset({0})), 0), (Members(joined=frozenset({0}), last=True), code):
        policy = FailurePolicy(2, started=True, federated=True)
        policy.on_exits([Exit("scheduler", 0, end), Exit("worker", 0, 0)])
        assert not stops(policy.on_members(members))


def test_workers_of_other_modes_are_not_started_again() -> None:
    policy = FailurePolicy(2, started=True)
    policy.on_members(Members(joined=frozenset({0, 1})))
    assert [type(action) for action in policy.on_exits([Exit("worker", 0, -9), Exit("worker", 1, 1)])] == [
        Say,
        Say,
        Stop,
    ]


@pytest.mark.parametrize("code", [2, 7])
def test_a_server_that_would_fail_again_is_not_started_again(code: int) -> None:
    policy = FailurePolicy(1, started=True, federated=True)
    assert stops(policy.on_exits([Exit("server", 0, code)]))
    assert policy.status == code


def test_when_all_is_over_nothing_is_started_again() -> None:
    policy = FailurePolicy(1, started=True, federated=True)
    policy.on_signal(signal.SIGTERM)
    assert policy.on_exits([Exit("server", 0, -9)]) == []


@pytest.mark.parametrize("code", [1, 2, 3, 4, 7, 8, 143])
def test_federated_clients_fail_each_for_itself(code: int) -> None:
    policy = FailurePolicy(2, started=True, federated=True)
    [say] = policy.on_exits([Exit("worker", 0, code)])
    assert isinstance(say, Say)
    assert say.text.endswith("1 of 2 workers go on")
    assert stops(policy.on_exits([Exit("worker", 1, 0)]))
    assert policy.status == exit_status(code)


@pytest.mark.parametrize("code", [-9, 1])
def test_a_scheduler_that_was_killed_or_crashed_is_started_again_and_no_failure_of_the_run(code: int) -> None:
    policy = FailurePolicy(2, restart="psctl scheduler", restarts=2, started=True)
    for _ in range(2):
        say, again = policy.on_exits([Exit("scheduler", 0, code)])
        assert isinstance(say, Say) and "starting it again with the state that it has kept" in say.text
        assert again == Restart("scheduler", 0)
    [say] = policy.on_exits([Exit("scheduler", 0, code)])
    assert isinstance(say, Say) and say.text.endswith("To bring it back: psctl scheduler")
    assert stops(policy.on_exits([Exit("worker", 0, 0), Exit("worker", 1, 0)]))
    assert policy.status == 0


def test_where_nobody_can_bring_a_scheduler_back_it_is_not_started_again() -> None:
    policy = FailurePolicy(2, started=True)
    [say] = policy.on_exits([Exit("scheduler", 0, -9)])
    assert isinstance(say, Say) and say.text.endswith("training goes on without it")


@pytest.mark.parametrize("code", [0, 2, 3, 8, 11, 143])
def test_a_scheduler_that_ended_by_itself_is_not_started_again(code: int) -> None:
    policy = FailurePolicy(2, restart="psctl scheduler", started=True)
    assert Restart("scheduler", 0) not in policy.on_exits([Exit("scheduler", 0, code)])


def test_without_its_scheduler_a_federated_run_waits() -> None:
    policy = FailurePolicy(1, restart="psctl scheduler", restarts=0, started=True, federated=True)
    [say] = policy.on_exits([Exit("scheduler", 0, -9)])
    assert isinstance(say, Say)
    assert "the rounds wait for it. To bring it back: psctl scheduler" in say.text


def test_a_worker_with_a_part_of_the_model_is_missed_by_the_others_of_its_pipeline() -> None:
    policy = FailurePolicy(4, started=True, pipeline=True)
    [say] = policy.on_exits([Exit("worker", 1, -9)])
    assert isinstance(say, Say)
    assert say.text == "worker 1 failed (killed by SIGKILL), and its pipeline cannot go on without it"
    assert stops(policy.on_exits([Exit("worker", rank, 4) for rank in (0, 2, 3)]))
    assert policy.status == 137


def test_a_scheduler_whose_budget_is_spent_has_ended_the_job_in_good_order_and_gives_its_code() -> None:
    policy = FailurePolicy(2, started=True, federated=True)
    [told] = policy.on_exits([Exit("scheduler", 0, 11)])
    assert isinstance(told, Say) and "privacy budget" in told.text and "bring it back" not in told.text
    policy.on_exits([Exit("worker", 0, 0)])
    assert stops(policy.on_exits([Exit("worker", 1, 0)]))
    assert policy.status == 11


def test_a_spent_budget_counts_also_when_the_scheduler_is_the_last_to_end() -> None:
    policy = FailurePolicy(1, started=True, federated=True)
    assert stops(policy.on_exits([Exit("worker", 0, 0)]))
    policy.on_exits([Exit("scheduler", 0, 11)])
    assert policy.status == 11


def test_a_server_with_a_standby_is_started_again_and_its_death_is_no_failure_of_the_run() -> None:
    policy = FailurePolicy(2, restarts=1)
    policy.replicated = policy.started = True
    said, again = policy.on_exits([Exit("server", 0, -9)])
    assert again == Restart("server", 0)
    assert isinstance(said, Say) and "starting it again" in said.text
    (said,) = policy.on_exits([Exit("server", 0, 4)])
    assert isinstance(said, Say) and "no other is started in its place" in said.text
    assert policy.status == 0
