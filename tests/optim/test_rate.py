"""The base learning rate, set anew while a job runs."""

from ps.optim import SCHEDULES
from ps.optim.rate import MEMORY, LearningRate


def test_a_change_counts_from_its_clock_on() -> None:
    rate = LearningRate(0.1, SCHEDULES.parse("constant").build())
    rate.set(10, 0.01)
    assert [rate(clock) for clock in (0, 9, 10, 99)] == [0.1, 0.1, 0.01, 0.01]


def test_changes_may_come_in_any_order_and_twice() -> None:
    rate = LearningRate(0.1, SCHEDULES.parse("constant").build())
    for clock, lr in ((20, 0.3), (10, 0.2), (20, 0.4), (0, 0.5)):
        rate.set(clock, lr)
    assert [rate(clock) for clock in (0, 10, 20)] == [0.5, 0.2, 0.4]


def test_the_schedule_multiplies_the_base() -> None:
    rate = LearningRate(0.1, SCHEDULES.parse("step:every=2,gamma=0.5").build())
    rate.set(2, 1.0)
    assert [rate(clock) for clock in range(4)] == [0.1, 0.1, 0.5, 0.5]


def test_a_script_that_sets_it_each_step_does_not_fill_the_memory() -> None:
    rate = LearningRate(0.1, SCHEDULES.parse("constant").build())
    for clock in range(10 * MEMORY):
        rate.set(clock, clock)
    assert len(rate._changes) == MEMORY
    assert rate(10 * MEMORY) == 10 * MEMORY - 1
    assert rate(0) == 9 * MEMORY
