"""What a worker tells the scheduler of itself when it joins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from ps.config import ProcessConfig
from ps.errors import Refused
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Error, Hello
from ps.worker.session import Session
from support.loopback import BOUND


@pytest.mark.parametrize(("rank", "suggested"), [(None, 3), (2, None), (2, 3), (None, None)])
def test_a_rank_that_is_demanded_is_told_as_one_and_one_that_an_engine_suggests_as_a_wish(
    rank: int | None, suggested: int | None
) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as scheduler, ThreadPoolExecutor(1) as pool:
        scheduler.linger = 0
        address = f"tcp://127.0.0.1:{scheduler.bind_to_random_port('tcp://127.0.0.1')}"
        process = ProcessConfig(scheduler=address, rank=rank, suggested_rank=suggested, connect_timeout=BOUND)
        session = pool.submit(Session, process, {})
        assert scheduler.poll(1000 * BOUND)
        origin, header = scheduler.recv_multipart()
        said = decode(header)
        scheduler.send_multipart([origin, encode(Error(said.request, "refused", "enough is known"))])
        with pytest.raises(Refused, match="enough is known"):
            session.result(BOUND)
    assert isinstance(said, Hello)
    assert (said.role, said.rank, said.suggested) == (
        "worker",
        -1 if rank is None else rank,
        -1 if suggested is None else suggested,
    )
