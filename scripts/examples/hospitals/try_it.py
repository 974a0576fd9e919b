#!/usr/bin/env python3
"""The three hospitals as processes of this machine: scripts/examples/hospitals/try_it.py [--secure pairwise|helper].

Each party makes its keys in a folder of its own, gives the public half away, and lists those whom it counts. Private
keys are read by nobody else. Exits with 0 when all rounds were played and every party has ended well.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PSCTL = [sys.executable, "-m", "ps.cli"]
SITES = ("hospital-a", "hospital-b", "hospital-c")
ROLES = {"operator": "scheduler", "server": "server", "board": "helper", **dict.fromkeys(SITES, "client")}
LISTS = {
    "operator": ("server", "board", *SITES),
    "server": ("operator",),
    "board": ("operator", *SITES),
    **{site: ("operator", "board", *(other for other in SITES if other != site)) for site in SITES},
}
"""Whom each party lists. The scheduler tells servers' keys to the others."""


def make_keys(folder: Path) -> None:
    """Have each party make its keys and list others' public ones, as it would with files that came by mail."""
    for party, role in ROLES.items():
        call = [*PSCTL, "keys", "new", str(folder / party), "--name", party, "--role", role]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    for party, others in LISTS.items():
        for other in others:
            public = str(folder / other / "public.key")
            call = [*PSCTL, "keys", "add", other, public, "--keys", str(folder / party)]
            subprocess.run(call, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secure", choices=("helper", "pairwise"), default="helper")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_keys(folder)

        def start(party: str, *words: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([*PSCTL, *words], env={**os.environ, "PS_KEYS": str(folder / party)})

        job = ("-s", "1", "-w", "3", "--mode", "federated", "--rounds", str(args.rounds), "--partition", "own")
        masks = ("--secure", args.secure, "--secure-min", "3", "--min-clients", "3")
        parties = [start("operator", "scheduler", "--host", "127.0.0.1", "--port", str(port), *job, *masks)]
        parties.append(start("server", "server", "--scheduler", address, "--host", "127.0.0.1"))
        if args.secure == "helper":
            parties.append(start("board", "helper", "--scheduler", address))
        for number, site in enumerate(SITES):
            words = ("worker", "--scheduler", address, str(HERE / "hospital.py"), "--site", str(number))
            parties.append(start(site, *words))
        try:
            codes = [party.wait(timeout=90) for party in parties]
        finally:
            for party in parties:
                if party.poll() is None:
                    party.kill()
    print(f"three hospitals, --secure {args.secure}: {'all ended well' if not any(codes) else codes}")
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
