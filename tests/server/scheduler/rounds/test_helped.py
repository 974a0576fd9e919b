"""Promises of rounds that a helper unmasks: its key, and what is sealed for it, outlive the scheduler."""

from __future__ import annotations

from ps.protocol.messages import HelpRequest, KeyShares, ShareInbox
from ps.secure.channel import to_text
from ps.secure.weights import digest_of
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


def sealed(table: Table, task: int, client: int, weights: bytes) -> None:
    said = to_text(bytes([client]) * 112 + weights + bytes(64))
    list(table.rounds.mask(KeyShares(1, 100 + client, task, ((0, said),), KEY.token(task, client)), client, table.now))


def test_a_client_that_a_server_gives_other_weights_is_in_no_sum_and_the_others_are() -> None:
    table = Table(secure="helper", secure_min=3)
    helper_asks(table)
    tasks = table.tasks(0, 1, 2, 3)
    crafted, given = digest_of(0, [b"crafted"]), digest_of(0, ())
    for client, task in enumerate(tasks):  # the victim comes first
        sealed(table, task, client, given if client else crafted)
    for _ in range(2):
        assert table.rounds.masking is not None
        assert [table.rounds.masking.admits(task) for task in tasks] == [False, True, True, True]
        table.restart()
