"""RoundPrivacy: what differential privacy asks of rounds: a clip, a payment before noise is drawn, an end in time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ps.config.job import JobConfig
from ps.config.privacy import conditions_of, noise_share_of, samples
from ps.config.secure import adds_noise
from ps.errors import ConfigError
from ps.number import MOST_COMBINED
from ps.privacy import Conditions, PrivacyBudget, demand_accountant, parse_privacy
from ps.protocol.layout import Layout
from ps.server.scheduler.rounds.ledger import Ledger
from ps.server.scheduler.rounds.task import Task

log = logging.getLogger("ps.scheduler")

_FINE = 1e5
"""Steps of a clip, where the encoding is not known yet."""
NOISABLE = ("trainable", "buffer")
"""The kinds of tensors to which noise can be added."""


def demand_account(explicit: Mapping[str, Any]) -> None:
    """Raise ConfigError where these settings have a budget that could not be accounted for, or not for one round."""
    if explicit.get("dp") is None:
        return
    demand_accountant()
    dp = parse_privacy(str(explicit["dp"])).build()
    if dp.eps or dp.noise:
        PrivacyBudget(dp, Conditions(1, MOST_COMBINED, MOST_COMBINED, steps=_FINE))


class RoundPrivacy:
    """The budget of a job that has one; of any other job it asks nothing."""

    def __init__(self, job: JobConfig, layout: Layout) -> None:
        self.failure = ""
        """Why there can be no rounds: what cannot be accounted for is not begun."""
        self.cut_short = False
        """Whether the rounds ended before their number because the budget was spent."""
        self.sampled = samples(job)
        """Whether each client is drawn by itself, and nobody is to learn who was."""
        self._open = False
        """Whether a release is paid for and not published."""
        self._distributed = False
        """Whether it is clients that clip and add the noise, by settings alone."""
        self._budget: PrivacyBudget | None = None
        if job.specs.privacy is None:
            return
        exact = [str(tensor) for tensor in layout.tensors if tensor.kind not in NOISABLE]
        if exact:
            self.failure = f"{exact[0]} cannot have noise, and --dp {job.dp} needs it on everything"
            return
        self._distributed = adds_noise(job)
        elements = sum(tensor.size for tensor in layout.tensors)
        try:
            self._budget = PrivacyBudget(job.specs.privacy.build(), conditions_of(job, elements))
            if self._distributed:
                noise_share_of(job, elements)
        except ConfigError as error:
            self.failure = str(error)

    def arm(self, ledger: Ledger) -> None:
        """Have an attempt's contributions held to the clip of its round, and noise added that belongs to it."""
        if self._budget is not None and not self._distributed:
            ledger.clip, ledger.noise = self._budget.clip, self._budget.deviation

    def stops(self, version: int, rounds: int) -> bool:
        """Whether rounds are left, and none of them can be paid for; then this is remembered."""
        if self._budget is None or not self._budget.exhausted or version >= rounds:
            return False
        if not self.cut_short:
            log.error("the privacy budget is spent, with %d of %d rounds done", version, rounds)
        self.cut_short = True
        return True

    def admits(self, client: int) -> bool:
        """Whether a client may be in the next release."""
        return self._budget is None or self._budget.sequences.admits(client)

    def pay(self, ledger: Ledger, clients: Sequence[int]) -> None:
        """Pay for what servers are about to be told to prepare, of these clients."""
        if self._budget is not None:
            ledger.sequence, ledger.row = self._budget.sequences.number, self._budget.sequences.rows
            counted = [bound for _, weight, _, bound in ledger.entries if weight > 0]
            self._budget.pay(sum(bound == 1.0 for bound in counted), clients)
            ledger.unpaid = self._open = True

    def abandon(self) -> None:
        """An attempt is given up: what it was paid for may be on some servers, and is in no model."""
        if self._open:
            self.forget_keys()
        self._open = False

    def forget_keys(self) -> None:
        """A server may have lost the keys of correlated noise: another sequence begins, and costs more."""
        if self._budget is not None:
            self._budget.sequences.end()

    def saved(self, ledger: Ledger) -> bool:
        """What was paid for is on disk, if there is one; return whether anything waited for that."""
        waited, ledger.unpaid = ledger.unpaid, False
        return waited

    def published(self, ledger: Ledger) -> None:
        """A round is published; the next one may have another clip."""
        if self._budget is not None:
            self._budget.released()
            self._open = False
            self.arm(ledger)

    def told(self, tasks: list[Task], refused: Counter[str]) -> tuple[list[Task], Counter[str]]:
        """Return what may be told of a round: its tasks and refusals, or nothing where who was drawn is a secret."""
        return ([], Counter()) if self.sampled else (tasks, refused)

    def status(self) -> dict[str, Any]:
        """Return what the status shows of it: nothing where there is none."""
        if self._budget is None:
            return {}
        return {"privacy": {**self._budget.status(), "cut_short": self.cut_short, "sampled": self.sampled}}

    def dump(self) -> dict[str, Any]:
        """Return what a restarted scheduler must know, as plain values."""
        return {} if self._budget is None else {**self._budget.dump(), "cut_short": self.cut_short, "open": self._open}

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned. LookupError or ValueError where a budget's account is missing or wrong."""
        if self._budget is not None:
            self._budget.load(values)
            self.cut_short, self._open = bool(values["cut_short"]), bool(values["open"])
