"""Promises of when checkpoints are made, of whose parts, and what becomes of one that somebody cannot make."""

from __future__ import annotations

from typing import Any

from ps.config.checkpoint import Every
from ps.protocol.messages import CheckpointOrder, CheckpointPart
from ps.server.scheduler.checkpoint_cut import CutNames
from ps.server.scheduler.checkpoints import Checkpoints
from ps.server.scheduler.member_record import DEAD, MemberRecord
from ps.server.scheduler.roster import Roster
from ps.server.send import Send

NONE = CutNames()


class Job:
    """Two servers and two workers, whose answers a test gives."""

    def __init__(self, every: Every, newest: tuple[int, str] = (-1, ""), names: CutNames = NONE) -> None:
        self.roster = Roster()
        self.members: dict[str, MemberRecord] = {}
        roles: tuple[tuple[Any, int], ...] = (("server", 0), ("server", 1), ("worker", 0), ("worker", 1))
        for number, (role, rank) in enumerate(roles, 1):
            record = MemberRecord(number, number, role, rank, "h", number, (), number=number, has_model=True)
            self.roster.add(record)
            self.members[f"{role} {rank}"] = record
        self.saving = Checkpoints(lambda: every, 1, newest, 0.0, names)
        self.now = 0.0

    def tick(self, seconds: float = 0.1) -> dict[int, CheckpointOrder]:
        self.now += seconds
        return orders(self.saving.tick(self.now, self.roster))

    def say(self, who: str, state: Any, clock: int = 0, **more: Any) -> dict[int, CheckpointOrder]:
        record = self.members[who]
        number = self.saving._number
        part = CheckpointPart(record.member, number, state, clock, clock, more.get("why", ""), more.get("about", {}))
        return orders(self.saving.hear(record, part, self.roster, self.now, more.get("lockstep", True)))

    def ask(self, clock: int) -> dict[int, CheckpointOrder]:
        """Have both servers say where they are; return the orders that follow."""
        assert self.say("server 0", "here", clock) == {}
        return self.say("server 1", "here", clock)

    def write(self, *who: str) -> None:
        for name in who or tuple(self.members):
            self.say(name, "written")


def orders(sends: list[Send]) -> dict[int, CheckpointOrder]:
    found = {}
    for send in sends:
        assert isinstance(send.to, int) and isinstance(send.message, CheckpointOrder)
        found[send.to] = send.message
    return found


def test_a_cut_goes_from_asking_over_writing_to_a_manifest() -> None:
    job = Job(Every(10))
    assert {order.phase for order in job.tick().values()} == {"ask"}
    marks = job.ask(3)
    assert set(marks) == {1, 2, 3, 4}
    assert {(o.phase, o.clock, o.folder) for o in marks.values()} == {("mark", 10, "step-000010")}
    job.write("server 0", "server 1", "worker 0")
    assert job.saving.seal is None, "a worker is still to come there"
    job.say("worker 1", "written", about={"file": True})
    seal = job.saving.seal
    assert seal is not None and (seal.step, seal.servers, seal.ended) == (10, (0, 1), False)
    assert [{**about, "member": 0} for about in seal.workers.values()] == [{"member": 0}, {"file": True, "member": 0}]
    done = orders(job.saving.sealed(seal.number, "", job.now))
    assert {order.phase for order in done.values()} == {"done"} and job.saving.newest == (10, "step-000010")
    job.tick()
    assert {o.clock for o in job.ask(17).values()} == {20}


def test_who_was_beyond_the_clock_has_the_next_one_further_ahead() -> None:
    job = Job(Every(seconds=5))
    assert job.tick(4) == {}
    job.tick(2)
    assert {o.clock for o in job.ask(100).values()} == {101}
    ahead = []
    for _ in range(3):
        sends = job.say("worker 0", "late", job.saving._cut.clock + 1)  # type: ignore[union-attr]
        assert set(sends.values()) and {o.phase for m, o in sends.items() if m > 2} == {"drop"}
        ahead += [o.clock for o in job.ask(100).values()][:1]
    assert ahead == sorted(set(ahead)) and ahead[-1] - ahead[0] > 2


def test_checkpoints_that_take_longer_than_there_is_between_them_leave_chunks_as_long_to_move() -> None:
    job = Job(Every(seconds=5))
    assert job.tick(5) != {}
    job.ask(9)
    job.now += 8
    job.write()
    assert job.saving.seal is not None and job.saving.needs_stillness(job.now)
    job.saving.sealed(job.saving.seal.number, "", job.now)
    assert not job.saving.needs_stillness(job.now + 7.9) and job.tick(7.9) == {}
    assert job.saving.needs_stillness(job.now + 0.2) and job.tick(0.2) != {}


def test_what_was_not_heard_is_said_again_to_those_who_have_not_done_it() -> None:
    job = Job(Every(10))
    job.tick()
    job.ask(0)
    job.say("server 0", "written")
    assert job.tick(0.5) == {}
    assert set(job.tick(0.6)) == {2, 3, 4}


def test_a_cut_that_cannot_be_made_is_given_up_by_name_and_the_next_one_is_made() -> None:
    job = Job(Every(10))
    job.tick()
    job.ask(0)
    job.say("server 0", "written")
    drops = job.say("server 1", "failed", why="No space left on device")
    assert {o.phase for o in drops.values()} == {"drop"} and set(drops) == {1, 2, 3, 4}
    assert "server 1" in job.saving.trouble and "No space left" in job.saving.trouble and job.saving.newest[0] == -1
    job.tick()
    marks = job.ask(10)
    assert {o.folder for o in marks.values()} == {"step-000020"}
    job.write()
    seal = job.saving.seal
    assert seal is not None
    job.saving.sealed(seal.number, "", job.now)
    assert job.saving.trouble == "" and job.saving.newest == (20, "step-000020")


def test_a_worker_that_dies_is_not_waited_for_and_named_and_a_server_gives_the_cut_up() -> None:
    job = Job(Every(10))
    job.tick()
    job.ask(0)
    job.write("server 0", "server 1", "worker 0")
    gone = job.members["worker 1"]
    gone.state, gone.why = DEAD, "its process is gone"
    job.saving.lost(gone)
    assert job.saving.seal is not None and "its process is gone" in job.saving.seal.workers[1]["lost"]
    other = Job(Every(10))
    other.tick()
    other.ask(0)
    drops = orders(other.saving.lost(other.members["server 1"]))
    assert {o.phase for o in drops.values()} == {"drop"} and 2 not in drops
    assert other.saving.seal is None


def test_the_status_names_the_newest_and_who_is_waited_for() -> None:
    job = Job(Every(seconds=1), (7, "step-000007"))
    assert job.saving.status(0.0) == {"step": 7, "folder": "step-000007", "life": 1}
    job.tick(2)
    job.ask(8)
    job.write("server 0", "server 1", "worker 0")
    job.now += 3
    found = job.saving.status(job.now)
    assert (found["waiting_for"], found["clock"], found["waiting_s"]) == (["worker 1"], 9, 3.0)
    job.write("worker 1")
    job.saving.sealed(job.saving._number, "", job.now)
    assert job.saving.status(job.now + 4)["ago_s"] == 4.0


def test_whoever_asks_has_not_to_wait_for_one_that_is_planned() -> None:
    job = Job(Every(1000))
    job.tick()
    job.ask(5)
    due, drops = job.saving.request()
    assert due == 1 and {o.phase for o in orders(drops).values()} == {"drop"}
    job.tick()
    assert job.saving.request() == (1, []), "one whose clock is not chosen yet is as good"
    assert {o.clock for o in job.ask(5).values()} == {6}
    job.saving.hasten(job.now + 2)
    assert {o.phase for o in job.tick(2.5).values()} >= {"ask"}
    marks = job.ask(5)
    assert set(marks) == {1, 2} and {o.clock for o in marks.values()} == {5}, "of what the servers have"


def test_whoever_asks_has_one_of_all_that_was_done_by_then_also_while_another_one_is_written() -> None:
    job = Job(Every(6))
    job.tick()
    job.ask(4)
    job.write()
    first = job.saving.seal
    assert first is not None and first.step == 6
    assert job.saving.request() == (2, []) == job.saving.request(), "clock 9 may be done by now; both have the same"
    job.saving.hasten(job.now + 10)
    assert {o.phase for o in orders(job.saving.sealed(first.number, "", job.now)).values()} == {"done"}
    assert {o.phase for o in job.tick().values()} == {"ask"}, "not the last yet"
    assert {o.clock for o in job.ask(9).values()} == {10}
    job.write()
    second = job.saving.seal
    assert second is not None and job.saving.finished == 1 and job.tick() == {}
    job.saving.sealed(second.number, "", job.now)
    assert (job.saving.finished, job.saving.newest) == (2, (10, "step-000010"))


def test_all_are_told_once_that_no_other_one_comes_whatever_became_of_the_last() -> None:
    for why in ("", "No space left on device"):
        job = Job(Every())
        job.saving.hasten(job.now + 10)
        job.saving.request()
        job.tick()
        job.ask(9)
        job.write()
        assert job.tick() == {}
        assert job.saving.seal is not None
        job.saving.sealed(job.saving.seal.number, why, job.now)
        assert {(to, order.phase) for to, order in job.tick().items()} == {(to, "last") for to in (1, 2, 3, 4)}
        assert job.saving.last_told and job.tick() == {}
        job.saving.request()
        assert not job.saving.last_told and {order.phase for order in job.tick().values()} == {"ask"}


def test_the_last_one_says_that_the_job_has_ended_and_is_not_made_twice() -> None:
    job = Job(Every())
    assert job.tick() == {}
    job.saving.end()
    job.tick()
    job.ask(40)
    job.write("server 0", "server 1")
    seal = job.saving.seal
    assert seal is not None and seal.ended and not seal.only_end and job.saving.verdict is None
    job.saving.sealed(seal.number, "", job.now)
    assert job.saving.verdict == ""
    there = Job(Every(), (40, "step-000040"))
    there.saving.end()
    there.tick()
    there.ask(40)
    assert there.saving.seal is not None and there.saving.seal.only_end and there.saving.seal.folder == "step-000040"
    failing = Job(Every(), (30, "step-000030"))
    failing.saving.end()
    failing.tick()
    failing.ask(40)
    failing.say("server 0", "failed", why="No space left on device")
    assert failing.saving.verdict is not None
    assert "No space left" in failing.saving.verdict and "step-000030" in failing.saving.verdict


def test_a_scheduler_that_was_restarted_in_mid_cut_makes_it_anew_under_a_number_and_a_name_of_its_own() -> None:
    before = Job(Every(seconds=1000))
    before.saving.request()
    before.tick()
    assert {o.folder for o in before.ask(8).values()} == {"step-000009"}
    before.say("server 0", "written")
    after = Job(Every(seconds=1000), names=before.saving.names)
    asked = after.tick()
    assert {(o.number, o.phase) for o in asked.values()} == {(2, "ask")}, "so that all let go of the one before"
    assert {o.folder for o in after.ask(8).values()} == {"step-000009.1.2"}
    after.write()
    assert after.saving.seal is not None
    after.saving.sealed(after.saving.seal.number, "", after.now)
    assert Job(Every(seconds=1000), names=after.saving.names).tick() == {}, "nothing was under way"
    after.saving.end(failed=True)
    last = Job(Every(seconds=1000), names=after.saving.names)
    assert last.saving.is_last and {o.phase for o in last.tick().values()} == {"ask"}, "all workers had left"
    last.ask(12)
    last.write("server 0", "server 1")
    assert last.saving.seal is not None and last.saving.seal.step == 12 and not last.saving.seal.ended


def test_a_cut_whose_workers_are_all_gone_is_made_of_what_servers_have_and_no_other_one_until_somebody_comes() -> None:
    job = Job(Every(10))
    job.tick()
    job.ask(4)
    for name in ("worker 0", "worker 1"):
        gone = job.members[name]
        job.roster.remove(gone)
        gone.state, gone.why = DEAD, "its process is gone"
        job.saving.lost(gone)
    assert {o.phase for o in job.tick().values()} == {"ask"}, "nobody will come to step 10"
    assert {(m, o.clock) for m, o in job.ask(4).items()} == {(1, 4), (2, 4)}
    job.write("server 0", "server 1")
    seal = job.saving.seal
    assert seal is not None and seal.step == 4
    job.saving.sealed(job.saving._number, "", job.now)
    assert job.saving.newest == (4, "step-000004") and job.tick() == {}


def test_workers_that_wait_hear_once_all_servers_have_come_to_the_clock() -> None:
    job = Job(Every(10))
    job.tick()
    job.ask(3)
    assert job.say("server 0", "written") == {} and job.say("worker 0", "written") == {}
    assert {m: o.phase for m, o in job.say("server 1", "written").items()} == {4: "reached"}
    assert {m: o.phase for m, o in job.tick(1.1).items()} == {4: "reached"}


def test_a_step_of_which_a_dead_worker_has_brought_only_a_part_is_no_checkpoint_and_nobody_waits_for_one() -> None:
    job = Job(Every())
    for name in ("worker 0", "worker 1"):
        job.roster.remove(job.members[name])
    job.saving.end()
    job.tick()
    assert job.say("server 0", "here", 7) == {}
    assert {o.phase for o in job.say("server 1", "here", 8).values()} == {"drop"}
    assert job.saving.verdict is not None and "of step 8 only a part was taken" in job.saving.verdict
