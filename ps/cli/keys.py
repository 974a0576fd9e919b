"""psctl keys: who may: keys are made on the machine that uses them, and public halves are listed by others."""

from __future__ import annotations

from pathlib import Path

import click

from ps.cli.help import HelpfulCommand, HelpfulGroup
from ps.cli.value import place, whole
from ps.config.values import MOST_PROCESSES
from ps.keys.public_keys import ROLES, PublicKeys

FILES = """\
DIR/private.key    never leaves the machine that it was made on
DIR/public.key    what others are given, to list it
DIR/NAME.pub    whom this process lets in, and by what name
DIR/NAME.revoked    whom it does not let in any more"""


@click.group(cls=HelpfulGroup, examples="psctl keys list --keys keys", notes={"Files": FILES})
def keys() -> None:
    """Make keys, list those of others, compare fingerprints, and revoke."""


folder = click.option(
    "--keys",
    "path",
    type=place(),
    envvar="PS_KEYS",
    required=True,
    metavar="DIR",
    help="folder with this process's keys (PS_KEYS)",
)


def _show(each: PublicKeys) -> str:
    return f"{each.name:<20} {each.role:<10} {each.fingerprint}"


@keys.command(cls=HelpfulCommand, examples="psctl keys new own --name hospital-a --role client")
@click.argument("path", type=place(), metavar="DIR")
@click.option("--name", required=True, metavar="NAME", help="what its owner is called")
@click.option("--role", required=True, type=click.Choice(ROLES), help="what its owner may be")
def new(path: str, name: str, role: str) -> int:
    """Make keys for a process of this machine, in DIR; the private ones never travel."""
    from ps.keys.key_folder import PUBLIC, create

    made = create(path, name, role)
    click.echo(_show(made.public))
    click.echo(f"give {Path(path) / PUBLIC} to those who are to list {name}, and the fingerprint by another way")
    return 0


@keys.command(cls=HelpfulCommand, examples="psctl keys add hospital-a hospital-a.key --keys keys")
@click.argument("name")
@click.argument("file", type=place())
@folder
@click.option("--beside", is_flag=True, help="accept the keys listed under this name as well: to replace them later")
def add(name: str, file: str, path: str, beside: bool) -> int:
    """List the public keys in FILE as those of NAME: let in from now on, in a running job too."""
    from ps.keys.key_folder import add as put

    for each in put(path, name, file, beside=beside):
        click.echo(_show(each))
    click.echo("compare the fingerprint with its owner, by another way than the file came")
    return 0


@keys.command("list", cls=HelpfulCommand, examples="psctl keys list --keys keys")
@folder
def show(path: str) -> int:
    """Show whose keys these are, and whom they let in, with fingerprints."""
    from ps.keys.key_folder import KeyFolder

    found = KeyFolder.read(path)
    click.echo(f"{_show(found.own.public)}  (own)")
    for each in found.everybody:
        click.echo(_show(each))
    return 0


@keys.command(cls=HelpfulCommand, examples="psctl keys revoke hospital-a --keys keys")
@click.argument("name")
@folder
def revoke(name: str, path: str) -> int:
    """Refuse the keys of NAME: in a running job its connections are cut within a heartbeat."""
    from ps.keys.key_folder import revoke as refuse

    for each in refuse(path, name):
        click.echo(f"{_show(each)}  revoked")
    return 0


@keys.command(cls=HelpfulCommand, examples="psctl keys init cluster -s 2 -w 4")
@click.argument("path", type=place(), metavar="DIR")
@click.option("-s", "--servers", type=whole(1, MOST_PROCESSES), default=1, metavar="N", help="servers (1)")
@click.option("-w", "--workers", type=whole(1, MOST_PROCESSES), default=1, metavar="N", help="workers (1)")
@click.option("--clients", is_flag=True, help="the workers are clients: of federated jobs only")
def init(path: str, servers: int, workers: int, clients: bool) -> int:
    """Make the keys of a whole cluster, each in a folder of its own below DIR.

    For a cluster on one machine, or of one owner: whoever runs this can speak for all of them.
    """
    from ps.keys.cluster_keys import create_cluster

    for each in create_cluster(Path(path), servers, workers, "client" if clients else "worker"):
        click.echo(f"{_show(each)}  --keys {Path(path) / each.name}")
    click.echo(
        "Whoever ran this can speak for all of them: these private keys were all made in one place.\n"
        "Where members belong to several owners, each runs psctl keys new on a machine of its own."
    )
    return 0
