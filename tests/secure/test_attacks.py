"""Whoever runs the scheduler lies about masks, alone or with clients: real clients refuse, each with its reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ps.config import job_from
from ps.config.secure import frames_of
from ps.errors import BadMessage
from ps.protocol.layout import Layout
from ps.protocol.messages import Cohort, Consents, Message, Reveal, ShareInbox, Unmask
from ps.secure.channel import from_text, to_text
from ps.secure.cohort import threshold
from ps.secure.frames import WrongSum
from ps.secure.identity import ThrowawaySigner
from ps.secure.masks import apply_masks
from ps.secure.pairwise import WillNot
from ps.secure.sharing import SECRET, combine
from ps.secure.sums import TOO_FEW, SumHistory
from ps.secure.weights import digest_of
from ps.server.scheduler.rounds.masking import SLICE
from support.masking_desk import MaskingDesk

ALL = range(1, 8)
NOBODY_REVEALS = "nobody has said a share"


def revealed(desk: MaskingDesk) -> list[Reveal]:
    return [message for message in desk.said if isinstance(message, Reveal)]


def test_without_a_lie_the_masks_come_off() -> None:
    desk = MaskingDesk(7).agree().close(range(1, 7))
    assert desk.round.known and not desk.why and len(revealed(desk)) == 6
    zero, total = np.zeros(64, np.uint16), np.zeros(64, np.uint16)
    for task in range(1, 7):
        part = zero.copy()
        apply_masks(part, 0, desk.masks[task].masks)
        total += part
    apply_masks(total, 0, [(from_text(key), sign) for key, sign in desk.round.keys], inverse=True)
    assert not total.any()


def test_different_survivors_for_different_clients_reveal_nothing() -> None:
    sets = {task: (1, 2, 3, 4, 5, 6) if task < 4 else (2, 3, 4, 5, 6, 7) for task in ALL}

    def lie(task: int, message: Message) -> Message:
        return dataclasses.replace(message, survivors=sets[task]) if isinstance(message, Unmask) else message

    desk = MaskingDesk(7, lie).agree().close(ALL)
    assert not revealed(desk) and not desk.round.known, NOBODY_REVEALS
    assert all("signed the same survivors" in why for why in desk.why.values()) and len(desk.why) == 7


def test_one_client_that_is_told_of_other_survivors_says_nothing() -> None:
    """The others' shares are as many as they may be; whom it was told of has signed something else."""

    def lie(task: int, message: Message) -> Message:
        return (
            dataclasses.replace(message, survivors=(1, 2, 3)) if isinstance(message, Unmask) and task == 1 else message
        )

    desk = MaskingDesk(7, lie).agree().close(ALL)
    assert "signed the same survivors" in desk.why[1]
    assert len(revealed(desk)) == 6


def test_both_shares_of_one_client_are_never_said() -> None:
    desk = MaskingDesk(7).agree().close(range(1, 7))
    for task in range(1, 7):
        desk.tell(task, Unmask(1, tuple(ALL)))
    assert all("both masks of one client would be told" in desk.why[task] for task in range(1, 7))
    said = [row for message in revealed(desk) for row in message.shares]
    assert len(said) == 6 * 7, "one half of each share"


def test_a_cohort_of_another_attempt_is_refused() -> None:
    earlier: dict[int, Cohort] = {}

    def listen(task: int, message: Message) -> Message:
        if isinstance(message, Cohort):
            earlier[task] = message
        return message

    def replay(task: int, message: Message) -> Message:
        return earlier[task] if isinstance(message, Cohort) else message

    first = MaskingDesk(7, listen).agree()
    second = MaskingDesk(7, replay, signers=first.signers, attempt=5).agree()
    assert all("not as it offered itself" in why for why in second.why.values()) and len(second.why) == 7


def test_survivors_and_signatures_of_another_attempt_are_refused() -> None:
    earlier: dict[int, Consents] = {}

    def listen(task: int, message: Message) -> Message:
        if isinstance(message, Consents):
            earlier[task] = message
        return message

    def replay(task: int, message: Message) -> Message:
        return earlier[task] if isinstance(message, Consents) else message

    first = MaskingDesk(7, listen).agree().close(ALL)
    second = MaskingDesk(7, replay, signers=first.signers, attempt=5).agree().close(ALL)
    assert not revealed(second) and len(second.why) == 7, NOBODY_REVEALS


def test_keys_that_the_operator_puts_under_clients_names_do_not_count() -> None:
    """It makes offers of its own under the identities of all but the victim: their signatures are not theirs."""
    operators = MaskingDesk(7)

    def lie(task: int, message: Message) -> Message:
        if task != 1 or not isinstance(message, Cohort):
            return message
        offers = []
        for other, rank, text in message.offers:
            theirs, mine = from_text(text), from_text(operators.masks[other].offer())
            offers.append((other, rank, text if other == 1 else to_text(theirs[:32] + mine[32:])))
        return dataclasses.replace(message, offers=tuple(offers))

    desk = MaskingDesk(7, lie).agree()
    assert desk.why.keys() == {1} and TOO_FEW in desk.why[1]


def test_clients_of_the_operators_own_do_not_count_however_many() -> None:
    friends = {task: ThrowawaySigner() for task in (1, 2)}
    known = {signer.public for signer in friends.values()}
    signers = {**friends, **{task: ThrowawaySigner() for task in range(3, 12)}}
    desk = MaskingDesk(11, signers=signers, lists=lambda public: public in known).agree()
    assert TOO_FEW in desk.why[1] and TOO_FEW in desk.why[2]


def test_one_identity_counts_once() -> None:
    signer = ThrowawaySigner()
    signers = {1: ThrowawaySigner(), **dict.fromkeys((2, 3, 4, 5), signer)}
    assert TOO_FEW in MaskingDesk(5, signers=signers).agree().why[1]


def test_a_threshold_that_the_scheduler_sets_lower_is_not_the_clients() -> None:
    desk = MaskingDesk(7, least=6, settings_least=3).agree().close((1, 2, 3, 4, 5))
    assert not revealed(desk) and all("it wants 6 (--secure-min)" in why for why in desk.why.values())
    few = MaskingDesk(7).agree()
    few.tell(1, Unmask(1, (1, 2)))
    assert TOO_FEW in few.why[1]


def crafted(round: int) -> bytes:
    return digest_of(round, [b"crafted"])


def test_a_client_that_a_server_gives_other_weights_is_in_no_sum_and_the_others_are() -> None:
    desk = MaskingDesk(7, weights={3: crafted(7)}).agree()
    assert desk.verdicts == {3: "unfinished"}
    assert desk.close([task for task in ALL if task != 3]).round.known and not desk.why


def test_servers_and_scheduler_together_get_no_sum_of_clients_with_different_weights() -> None:
    """The scheduler has them all be in the cohort, as one that looks away."""
    desk = MaskingDesk(7, weights={3: crafted(7)})
    desk.round._alike = lambda: dict(desk.round._offers)  # type: ignore[method-assign]
    desk.agree()
    assert desk.why.keys() == {3} and "with its weights, and 6 with others" in desk.why[3]
    assert all(3 not in desk.masks[task]._others for task in ALL if task != 3), "nobody has masks in common with it"
    assert not desk.round.admits(3)
    halves = MaskingDesk(8, weights=dict.fromkeys((1, 2, 3, 4), crafted(7)), least=5)
    halves.round._alike = lambda: dict(halves.round._offers)  # type: ignore[method-assign]
    assert len(halves.agree().why) == 8, "four are fewer than they want, on either side"


def test_a_cohort_in_which_the_weights_of_others_were_changed_is_refused() -> None:
    def lie(task: int, message: Message) -> Message:
        if task != 3 or not isinstance(message, Cohort):
            return message
        offers = []
        for other, rank, text in message.offers:
            data = from_text(text)
            offers.append((other, rank, text if other == 3 else to_text(data[:96] + crafted(7) + data[-64:])))
        return dataclasses.replace(message, offers=tuple(offers))

    desk = MaskingDesk(7, lie, weights={3: crafted(7)})
    desk.round._alike = lambda: dict(desk.round._offers)  # type: ignore[method-assign]
    assert desk.agree().why.keys() == {3} and TOO_FEW in desk.why[3], "the others did not sign that"


@pytest.mark.parametrize("missing", [1, 2])
def test_a_sum_of_the_same_round_that_differs_by_one_or_two_is_refused(missing: int) -> None:
    told = {task: SumHistory() for task in ALL}
    first = MaskingDesk(7, told=told).agree().close(ALL)
    assert first.round.known
    second = MaskingDesk(7, told=told, signers=first.signers, attempt=5).agree().close(range(1, 8 - missing))
    assert not revealed(second) and len(second.why) == 7 - missing
    assert all(f"differs by {missing} of its clients" in why for why in second.why.values())


def test_the_scheduler_itself_asks_only_for_sums_that_are_not_refused() -> None:
    told = {task: SumHistory() for task in ALL}
    first = MaskingDesk(7, told=told).agree()
    first.round.close(ALL, 0.0)
    for task in ALL:
        first.tell(task, Unmask(1, tuple(ALL)))
    first.round.lose([5, 6, 7])  # they go between their signature and their shares: the sum is not told, or so we say
    first.look()
    first.look()
    signers = {task: signer for task, signer in first.signers.items() if task < 7}
    second = MaskingDesk(6, told=told, signers=signers, attempt=5, scheduler=first.round).agree()
    assert sorted(second.verdicts.values()) == ["unfinished", "unfinished"], "so many are left out"
    here = sorted(second.masks.keys() - second.verdicts.keys())
    assert second.close(here).round.known and not second.why


def test_a_client_that_is_told_another_round_than_the_others_finds_nobody_there() -> None:
    desk = MaskingDesk(7, rounds={1: 8}).agree()
    assert TOO_FEW in desk.why[1] and len(desk.why) == 1


def test_a_share_that_was_changed_or_is_for_another_one_is_found() -> None:
    def lie(task: int, message: Message) -> Message:
        if not isinstance(message, ShareInbox) or task != 1:
            return message
        (one, box), (two, other), *rest = message.shares
        return dataclasses.replace(message, shares=((one, other), (two, box), *rest))

    desk = MaskingDesk(7, lie).agree()
    assert "cannot be opened" in desk.why[1] and len(desk.why) == 1


@pytest.mark.parametrize("count", [5, 6, 7, 9])
def test_with_fewer_clients_than_the_threshold_a_second_secret_cannot_be_put_together(count: int) -> None:
    """They give the scheduler both halves of all that they hold, beside what honest clients reveal of a victim."""
    need = threshold(count)
    desk = MaskingDesk(count).agree().close(range(1, count + 1))
    assert desk.round.known
    keys = {held[0]: held[2] for task in range(2, need + 1) if (held := desk.masks[task]._held[1])}
    assert len(keys) == need - 1
    with pytest.raises(BadMessage, match="are needed"):
        combine(keys.items(), need)
    guessed = {**{number: bytes(SECRET) for number in range(1, need + 1)}, **keys}
    assert combine(guessed.items(), need) != desk.masks[1]._key_secret


@pytest.mark.parametrize("count", [4, 5, 6, 7, 8, 9])
def test_a_third_of_the_clients_that_sign_everything_do_not_have_both_secrets_of_one_said(count: int) -> None:
    """Honest ones are split in two, of which each is shown other survivors; both sides reveal only if more lie."""
    liars = range(1, (count - 1) // 3 + 1)
    for size in range(1, count - len(liars)):
        desk = MaskingDesk(count).agree()
        honest = range(len(liars) + 1, count + 1)
        sides = {tuple(range(1, count + 1)): honest[size:], tuple(range(1, count)): honest[:size]}  # with the last one
        able = 0
        for survivors, side in sides.items():
            signatures = [(task, desk.masks[task].consent(survivors)) for task in side]
            for task in liars:
                desk.masks[task]._survivors, desk.masks[task]._told = None, SumHistory()
                signatures.append((task, desk.masks[task].consent(survivors)))
            try:
                for task in side:
                    desk.masks[task].reveal(signatures)
            except WillNot:
                continue
            able += 1
        assert able < 2, size


def test_another_seed_round_or_codec_is_found_in_the_sum() -> None:
    layout = Layout.of({"w": np.zeros(64, np.float32)})
    settings = {"mode": "federated", "workers": 4, "secure": "pairwise", "secure_min": 3}
    jobs = [job_from({**settings, **other}) for other in ({}, {}, {"seed": 9})]
    chunks = layout.chunks(1, 1 << 20)
    rng = np.random.default_rng(1)
    for wrong in ("nothing", "round", "seed"):
        total: np.ndarray = np.zeros(0, np.uint16)
        for number, job in enumerate(jobs):
            made = frames_of(jobs[0] if wrong != "seed" else job, chunks)
            assert made is not None
            round = 8 if wrong == "round" and number == 2 else 7
            words = made.encode(chunks[0], np.zeros(64, np.float32), 1.0, round, rng)
            total = words if not total.size else total + words
        honest = frames_of(jobs[0], chunks)
        assert honest is not None
        if wrong == "nothing":
            assert honest.decode(chunks[0], total, 3, 7).values.shape == (64,)
        else:
            with pytest.raises(WrongSum, match="another seed, round, codec or mask"):
                honest.decode(chunks[0], total, 3, 7)


def test_with_many_clients_the_scheduler_turns_to_others_between_two_secrets() -> None:
    desk = MaskingDesk(40).agree()
    desk.round.close(range(1, 41), 0.0)
    turns = 0

    def work() -> None:
        nonlocal turns
        turns += 1
        step()

    step, desk.round.work = desk.round.work, work  # type: ignore[method-assign]
    for task in range(1, 41):
        desk.tell(task, Unmask(1, tuple(range(1, 41))))
    desk.look()
    desk.look()
    assert desk.round.known and turns == 40 / SLICE
