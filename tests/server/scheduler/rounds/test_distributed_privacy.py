"""Promises of rounds whose noise clients add under masks: a sum is paid for, on disk, before anybody is asked to take
its masks off, and below the number whose noise is counted on there is no sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.protocol.layout import Layout
from ps.protocol.messages import Cohort, Consent, Consents, KeyOffer, KeyShares, Reveal, ShareInbox, Unmask
from ps.secure.identity import ThrowawaySigner, anybody
from ps.secure.pairwise import MaskedTask, PairwiseClient
from ps.secure.weights import digest_of
from ps.server.scheduler.rounds.privacy import RoundPrivacy
from support.delta_parts import job_of
from support.identity import KEY
from support.table import LAYOUT, Table

JOB: dict[str, Any] = {
    "dp": "skellam:eps=8,delta=1e-5,clip=1",
    "secure": "pairwise:ring=32",
    "secure_min": 4,
    "min_clients": 4,
    "rounds": 3,
    "over_select": 1.0,
}
CLIENTS = range(4)


class Agreed(Table):
    """Four clients that have agreed on masks."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{**JOB, **more})
        self.agree()

    def agree(self) -> None:
        self.given = dict(zip(CLIENTS, self.tasks(*CLIENTS), strict=True))
        version = self.rounds.version
        begun = digest_of(version, ())
        self.clients = {
            client: PairwiseClient(MaskedTask("1", version, task, client), begun, ThrowawaySigner(), anybody, 3)
            for client, task in self.given.items()
        }
        for client, masks in self.clients.items():
            self.say_masked(KeyOffer, client, masks.offer())
        for client, cohort in [(client, self.told(client, Cohort)) for client in CLIENTS]:
            self.say_masked(KeyShares, client, self.clients[client].shares(cohort.attempt, cohort.offers))
        for client in CLIENTS:
            self.clients[client].take(self.told(client, ShareInbox).shares)

    def say_masked(self, kind: Any, client: int, what: Any) -> None:
        task, self.numbers = self.given[client], self.numbers + 1
        message = kind(self.numbers, 100 + client, task, what, KEY.token(task, client))
        self._tell(list(self.rounds.mask(message, client, self.now)))

    def told(self, client: int, kind: Any) -> Any:
        found = [message for message in self.heard.pop(client, []) if isinstance(message, kind)]
        return found[-1] if found else None

    def contribute_all(self, *clients: int) -> None:
        for client in clients or CLIENTS:
            self.upload(self.given[client])
            self.submit_quietly(client)

    def submit_quietly(self, client: int) -> None:
        heard = dict(self.heard)
        self.submit(client, self.given[client], version=self.rounds.version)
        if client in heard and client not in self.heard:
            self.heard[client] = heard[client]

    @property
    def paid(self) -> int:
        return int(self.rounds.status()["privacy"]["releases"])

    def asked(self) -> list[int]:
        return [client for client in CLIENTS for m in self.heard.get(client, []) if isinstance(m, Unmask)]


def test_nobody_is_asked_to_take_masks_off_before_it_is_on_disk_that_the_sum_is_paid_for() -> None:
    table = Agreed()
    table.saves = False
    table.contribute_all()
    table.pass_time(5.0)
    assert table.paid == 1 and not table.asked() and table.rounds.phase == "close"
    table.saves = True
    table.pass_time(0.25)
    assert table.asked() and table.paid == 1


def unmask(table: Agreed, *clients: int) -> None:
    """These sign who is in the sum, and reveal what may be told."""
    table.heard.clear()
    for client in clients:
        table.submit_quietly(client)
    chosen = tuple(sorted(table.given.values()))
    for client in clients:
        table.say_masked(Consent, client, table.clients[client].consent(chosen))
    for client in clients:
        signed = table.told(client, Consents)
        if signed is not None:
            table.say_masked(Reveal, client, table.clients[client].reveal(signed.signatures))
    table.pass_time(2.0)  # secrets are put together a few at a time


def test_a_round_that_is_told_costs_what_was_planned() -> None:
    table = Agreed()
    table.contribute_all()
    unmask(table, *CLIENTS)
    assert (table.rounds.version, table.paid) == (1, 1)
    order = [order for _, order in table.orders if order.phase == "prepare"][-1]
    assert (order.clip, order.noise) == (0.0, 0.0), "no server clips, or draws noise"


def test_with_one_survivor_less_than_must_be_in_a_sum_there_is_none_and_nothing_is_paid() -> None:
    table = Agreed()
    table.contribute_all(0, 1, 2)
    table.lose(3)
    table.pass_time(130.0)
    assert table.paid == 0 and table.rounds.version == 0 and table.rounds.abandoned > 0
    assert not [order for _, order in table.orders if order.phase == "prepare"]


def test_a_sum_that_too_few_sign_is_none_but_is_paid_for() -> None:
    table = Agreed(dp="skellam:eps=8,delta=1e-5,clip=1,spare=1")
    table.contribute_all()
    unmask(table, 0, 1, 2)
    table.pass_time(130.0)
    assert table.rounds.version == 0 and table.rounds.abandoned > 0 and table.paid == 1


def test_a_scheduler_that_is_started_anew_when_it_has_asked_goes_on_with_the_same_sum_and_pays_once() -> None:
    table = Agreed()
    table.contribute_all()
    table.restart()
    for rank in table.servers:
        table.say(rank)
    unmask(table, *CLIENTS)
    assert (table.rounds.version, table.paid) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"secure": "pairwise:ring=16,bits=13"}, "they would wrap"),
        ({"dp": "skellam:eps=0.1,noise=1,delta=1e-5,clip=1"}, "more than eps=0.1"),
    ],
)
def test_what_cannot_be_accounted_for_or_has_no_room_is_not_begun(settings: dict[str, Any], why: str) -> None:
    assert why in RoundPrivacy(job_of(**{**JOB, **settings}), LAYOUT).failure


def test_a_counter_in_the_model_is_refused_here_too() -> None:
    layout = Layout.of({"n": np.zeros(1, np.int64)}, {"n": "counter"})
    assert "n int64[1] (counter) cannot have noise" in RoundPrivacy(job_of(**JOB), layout).failure
