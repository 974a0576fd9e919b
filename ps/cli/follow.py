"""psctl follow: the model of a running job as files, from outside of the job."""

from __future__ import annotations

import logging
from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.logs import log_by_hand
from ps.cli.options import process_options
from ps.cli.target import find_keys, find_scheduler
from ps.cli.value import place, real, whole
from ps.config.values import LONGEST_WAIT
from ps.errors import JobEnded, PeerLost, UnsavedModel
from ps.number import MOST_STEPS

log = logging.getLogger("ps.follow")

FILES = """\
DIR/step-00000120.safetensors is the model with 120 steps in it (federated: rounds), with the
names of --save; DIR/latest.safetensors is a link to the newest. Files are whole, or not there."""


@click.command(
    cls=HelpfulCommand,
    examples="psctl follow --scheduler 10.0.0.1 --out snapshots --every 60 --keep 5\npsctl follow --out now --once",
    notes={"Files": FILES},
)
@process_options("follow")
@click.option("--out", required=True, type=place(), metavar="DIR", help="folder for the files; it is made")
@click.option(
    "--every", type=real(low=0, high=LONGEST_WAIT), default=10.0, metavar="X", help="seconds between snapshots (10)"
)
@click.option("--keep", type=whole(0, MOST_STEPS), default=0, metavar="N", help="keep the newest N files; 0: all (0)")
@click.option("--once", is_flag=True, help="write one snapshot and end")
@click.option("--masters", is_flag=True, help="write float32 masters of what is trained in half precision")
@click.option(
    "--base",
    type=place(),
    metavar="FILE",
    help="model file whose other tensors, such as frozen ones, complete each snapshot",
)
@click.option(
    "--timeout",
    type=real(low=0, high=LONGEST_WAIT),
    default=60.0,
    metavar="X",
    help="seconds to wait for a job that has no model yet (60)",
)
def follow(
    out: str, every: float, keep: int, once: bool, masters: bool, timeout: float, base: str | None, **options: Any
) -> int:
    """Write the model of a running job to files, while it is trained and when it has ended.

    It reads only: it is no member of the job, and may come, go and be slow as it likes.
    """
    from ps.following.base import rest_of
    from ps.following.folder import SnapshotFolder
    from ps.following.follower import follow as begin
    from ps.weights_file import open_weights

    address = find_scheduler(options)
    folder = SnapshotFolder(out, keep)
    if base:
        with open_weights(base, "--base"):
            pass  # what is wrong with it is told before anything
    try:
        log_by_hand()
        try:
            follower = begin(address, every=every, masters=masters, timeout=timeout, keys=find_keys(options))
        except JobEnded as error:
            raise PeerLost(f"{error}: there is nothing to follow any more") from None
        with follower as snapshots:
            folder.claim(follower.job, rest_of(base, follower.shapes) if base else None)
            for snapshot in snapshots:
                try:
                    log.info("%s", folder.write(snapshot))
                except UnsavedModel as error:
                    if once or snapshot.final:
                        raise
                    log.warning("%s; the next one is tried", error)
                if once:
                    return 0
        log.info("the job has ended")
        return 0
    finally:
        folder.close()
