"""psctl of somebody who lies: liar.py COMMAND ...; a scheduler tells clients of different survivors in the first
attempt at round 2, a server gives the first client that asks for round 1 other weights than the rest."""

import dataclasses
import sys

from ps.cli import main
from ps.server.scheduler.rounds import masking
from ps.server.shard import federated_shard

lied = set()
victim = []
unmask, answer = masking.MaskingRound.unmask, federated_shard.FederatedShard._answer


def lie_about_survivors(self, task, request):
    said = unmask(self, task, request)
    if said is None or self._round != 2 or (lied and self._attempt not in lied):
        return said
    lied.add(self._attempt)
    rest = said.survivors[1:]
    return dataclasses.replace(said, survivors=rest) if task in rest[len(rest) // 2 :] else said


def give_another(self, chunk, waiter):
    sent = answer(self, chunk, waiter)
    if self.version != 1:
        return sent
    victim[:] = victim or [waiter.member]
    if waiter.member == victim[0]:
        sent.loan.weights = sent.loan.weights + 1
    return sent


masking.MaskingRound.unmask = lie_about_survivors
federated_shard.FederatedShard._answer = give_another
sys.exit(main(sys.argv[1:]))
