"""What a running job is like, seen from this host: who is reached, how fast, whose clock and software differ."""

from __future__ import annotations

import ipaddress
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ps import about
from ps.doctor.finding import Finding
from ps.doctor.places import listed, places
from ps.errors import PSError
from ps.launch.progress import waiting_lines
from ps.loopback import is_loopback
from ps.protocol import query
from ps.protocol.addresses import split_key

TRIPS = 5
SKEWED = 2.0
"""Seconds between two clocks from which on records and logs do not fit together."""
SLOW = 50.0
"""Milliseconds there and back, at which small chunks wait for the network."""
COPIES = 3
"""Of the weights in a checkpoint, at most."""
LONG = 5.0
"""Seconds of a wait that is told."""

Status = Mapping[str, Any]


def examine(address: str, timeout: float, folder: Path = Path(), *, bandwidth: bool = True) -> list[Finding]:
    """Return what there is to say of a job, by its scheduler's address. ``folder``: where checkpoints would go."""
    found = [*_name("scheduler", address)]
    try:
        began = time.time()
        status = query.fetch_status(address, timeout)
        asked = (began + time.time()) / 2
        found.append(_reached("scheduler", address, timeout))
    except PSError as error:
        advice = "is it up? From here that address has to be let through (firewall, --host, --advertise)"
        return [*found, Finding("scheduler", "reached", "wrong", str(error), advice, error.exit_code)]
    found += _clocks(status, asked)
    found += _members(status, address, timeout)
    found += _versions(status)
    found += _room(status, folder)
    found += [Finding("job", "wait", "warning", line, "see psctl status") for line in waiting_lines(status, LONG)]
    if bandwidth and status.get("phase") == "running" and status.get("servers"):
        found.append(_bandwidth(address, timeout))
    return found


def _name(who: str, address: str) -> Iterator[Finding]:
    host = urlsplit(address).hostname or ""
    if not address.startswith("tcp:") or _is_number(host):
        return
    try:
        found = places(host)
    except OSError as error:
        advice = "give an address, or put the name into /etc/hosts or the DNS of this host"
        yield Finding(who, "name", "wrong", f"{host} is the name of no host here ({error.strerror})", advice)
        return
    yield Finding(who, "name", "ok", f"{host} is {listed(found)}")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _reached(who: str, address: str, timeout: float) -> Finding:
    """Ask a process whether it answers, several times. Raises PSError."""
    trips = sorted(float(query.ping(address, timeout)["ms"]) for _ in range(TRIPS))
    ms = trips[len(trips) // 2]
    text = f"at {split_key(address)[0]} in {ms:.1f} ms (connection included; {trips[-1]:.1f} at most)"
    if ms > SLOW:
        return Finding(who, "reached", "warning", text, "take larger chunks (--chunk-size), async or ssp, or federated")
    return Finding(who, "reached", "ok", text)


def _live(status: Status) -> Iterator[tuple[str, Status]]:
    """Yield who lives, servers first, with what the scheduler says of it."""
    for role in ("server", "worker"):
        for row in status.get(f"{role}s", []):
            if row.get("state") == "live":
                yield f"{role} {row.get('rank')}", row


def _members(status: Status, scheduler: str, timeout: float) -> Iterator[Finding]:
    """Whom this host reaches, and who reaches the scheduler: what it heard of each, and when."""
    silent = float((status.get("job") or {}).get("heartbeat_timeout") or 10.0) / 2
    is_far = not is_loopback(urlsplit(scheduler).hostname or "")
    for who, row in _live(status):
        seen = float(row.get("last_seen_s") or 0.0)
        if seen > silent:
            advice = "it stands still, or its host or link is down: look there, with psctl doctor --scheduler"
            yield Finding(who, "reaches the scheduler", "warning", f"not heard for {seen:.1f} s", advice)
        else:
            yield Finding(who, "reaches the scheduler", "ok", f"heard {seen:.1f} s ago, from {row.get('host')}")
        for address in (a for a in row.get("addresses") or () if str(a).startswith("tcp:")):
            yield from _server(who, str(address), timeout, is_far=is_far)


def _server(who: str, address: str, timeout: float, *, is_far: bool) -> Iterator[Finding]:
    yield from _name(who, address)
    try:
        yield _reached(who, address, timeout)
    except PSError as error:
        advice = "workers on this host will not reach it: let the port through, or give --host or --advertise there"
        if is_far and is_loopback(urlsplit(address).hostname or ""):
            advice = "that is an address for its own host only: start it with --host or --advertise"
        yield Finding(who, "reached", "wrong", str(error), advice, error.exit_code)


def _clocks(status: Status, asked: float) -> Iterator[Finding]:
    """How far clocks are apart: this host's, the scheduler's, and each member's."""
    there = (status.get("scheduler") or {}).get("time")
    skews = {"scheduler": there - asked} if isinstance(there, float) else {}
    above = skews.get("scheduler", 0.0)
    skews |= {who: float(row["skew_s"]) + above for who, row in _live(status) if "skew_s" in row}
    if not skews:
        yield Finding("job", "clocks", "unknown", "the job does not tell what time it is there")
        return
    far = {who: skew for who, skew in skews.items() if abs(skew) > SKEWED}
    for who, skew in far.items():
        advice = "training is not harmed, records and logs are: have NTP or chrony set it"
        yield Finding(who, "clock", "warning", f"{abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}", advice)
    if not far:
        worst = max(abs(skew) for skew in skews.values())
        yield Finding("job", "clocks", "ok", f"{len(skews)} differ from this host's by at most {worst:.1f} s")


def _versions(status: Status) -> Iterator[Finding]:
    kinds: dict[str, list[str]] = {}
    for who, row in _live(status):
        if row.get("software"):
            kinds.setdefault(str(row["software"]), []).append(who)
    ours = about.software()
    if set(kinds) - {ours}:
        for software, members in kinds.items():
            if software != ours:
                text = f"{software}; here {ours}"
                advice = "install the same everywhere: other versions of NumPy may give other bits"
                yield Finding(", ".join(members[:5]), "versions", "warning", text, advice)
    elif kinds:
        yield Finding("job", "versions", "ok", f"the same everywhere: {ours}")


def _room(status: Status, folder: Path) -> Iterator[Finding]:
    """Whether checkpoints of this model find room here."""
    size = COPIES * sum(float(row.get("bytes") or 0) for row in status.get("servers", []))
    if not size:
        return
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # the host's part has told of it
    many = int((status.get("job") or {}).get("keep") or 3) + 1
    text = f"one is at most {size / 1e9:.2g} GB (weights and two moments); {free / 1e9:.1f} GB are free at {folder}"
    if free < many * size:
        advice = f"make room for {many} (--keep, and the one that is written), or keep fewer"
        yield Finding("job", "room for checkpoints", "warning", text, advice)
    else:
        yield Finding("job", "room for checkpoints", "ok", text)


def _bandwidth(address: str, timeout: float) -> Finding:
    """Read the model once, as a follower does."""
    from ps.following.follower import follow

    began = time.perf_counter()
    try:
        with follow(address, every=0, timeout=timeout) as snapshots:
            snapshot = next(iter(snapshots))
            nbytes = sum(value.nbytes for value in snapshot.values())
    except (PSError, StopIteration) as error:
        return Finding(
            "servers", "bandwidth", "unknown", f"the model could not be read: {error or 'the job has ended'}"
        )
    seconds = time.perf_counter() - began
    text = f"read the model's {nbytes / 1e6:.1f} MB in {seconds:.2f} s ({nbytes / 1e6 / seconds:,.1f} MB/s)"
    return Finding("servers", "bandwidth", "ok", f"{text}, with the wait for a clock")
