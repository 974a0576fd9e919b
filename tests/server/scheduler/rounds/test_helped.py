"""Promises of rounds that a helper unmasks: its key, and what is sealed for it, outlive the scheduler."""

from __future__ import annotations

from ps.protocol.messages import HelpRequest, KeyShares, ShareInbox
from support.identity import KEY
from support.table import Table


def helper_asks(table: Table, offer: str = "key") -> None:
    table.rounds.help(HelpRequest(1, offer, 0, 0, ""), table.now, KEY.masks)


def test_a_helper_that_asks_again_with_the_same_key_has_nothing_written_to_disk() -> None:
    table = Table(secure="helper", secure_min=3)
    for offer, new in [("key", True), ("key", False), ("another", True), ("another", False)]:
        table.rounds.changed = False
        helper_asks(table, offer)
        assert table.rounds.changed is new, offer


def test_a_seed_that_is_sealed_for_the_helper_is_on_disk_before_its_client_hears_so() -> None:
    table = Table(secure="helper", secure_min=3)
    helper_asks(table)
    task, *_ = table.tasks(0, 1, 2, 3)
    table.rounds.changed = False
    shares = KeyShares(1, 100, task, ((0, "box"),), KEY.token(task, 0))
    (answer,) = [send.message for send in table.rounds.mask(shares, 0, table.now)]
    assert isinstance(answer, ShareInbox) and table.rounds.changed
    table.restart()
    assert table.rounds.masking is not None and table.rounds.masking.admits(task)
