"""Promises of states: nothing a client did not send is lost, and nothing refused is learnt."""

from __future__ import annotations

import numpy as np
import pytest

from ps.compress import CODECS, Key, Uplink
from ps.protocol.layout import Chunk
from ps.simulate.local_states import LocalState, LocalStates
from ps.simulate.task import TrainingTask
from ps.xp import HostArray

CHUNK = Chunk(0, 0, "float32", 0, 8, 0)


def decoded(uplink: Uplink, frame: HostArray, task: TrainingTask) -> HostArray:
    found = np.zeros(8, np.float32)
    uplink.codec.open(frame, 8, np.float32, Key(0, task.round, 0, task.client)).add_to(found)
    return found


@pytest.mark.parametrize("accepted", [True, False])
def test_what_arrived_and_what_is_kept_add_up_to_what_was_trained(accepted: bool) -> None:
    uplink = Uplink(CODECS.parse("topk:0.25"))
    states, arrived, trained = LocalStates(uplink), np.zeros(8, np.float32), np.zeros(8, np.float32)
    rng = np.random.default_rng(0)
    for round in range(3):
        task, delta = TrainingTask(5, 10 + round, round, round), rng.standard_normal(8).astype(np.float32)
        (frame,) = states.send(task, [CHUNK], [delta], states.of(5), seed=0)
        trained += delta
        if accepted:
            arrived += decoded(uplink, frame, task)
        states.settle(task.ticket, accepted)
    np.testing.assert_allclose(arrived + states.of(5).unsent[0]["residual"], trained, rtol=1e-5, atol=1e-6)
    assert arrived.any() == accepted


def test_only_a_contribution_that_counts_renews_the_control_variate() -> None:
    states = LocalStates(Uplink(CODECS.parse("none")))
    zeros = np.zeros(8, np.float32)
    for ticket, accepted in ((1, False), (2, True)):
        task = TrainingTask(3, ticket, 0, 0)
        states.send(task, [CHUNK], [zeros], LocalState(own=np.full(8, ticket, np.float32), updates=ticket), seed=0)
        states.settle(ticket, accepted)
        assert (states.of(3).own is not None) == accepted
        assert states.of(3).updates == ticket, "the optimizer has taken its steps all the same"
    states.settle(1, accepted=True)
    assert states.of(3).updates == 2, "a task is settled once"
    assert states.of(4) == LocalState()
