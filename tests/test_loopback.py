"""Promises of ps.loopback: one function says what is of one host alone, and it asks only where it may wait."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

import ps
from ps.loopback import is_loopback

LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "::1%lo", "::ffff:127.0.0.1", "localhost"]
OTHERS = ["", "*", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "127.evil.example", "eth0", "a b"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were looked up; ``here`` is loopback, ``mixed`` that and another, and there is no other."""
    asked: list[str] = []
    known = {
        "here": ["127.0.1.1", "::1"],
        "mixed": ["127.0.0.1", "10.0.0.1"],
        "there": ["10.0.0.1"],
        "localhost": ["10.0.0.1"],
    }

    def look_up(host: str, port: int, *more: Any) -> list[Any]:
        asked.append(host)
        try:
            return [(0, 0, 0, "", (address, port)) for address in known[host]]
        except KeyError:
            raise OSError("no such host") from None

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("host", [*LOOPBACK, *OTHERS, "here", "mixed", "there"])
def test_nobody_is_asked_where_that_is_not_wanted(asked: list[str], host: str) -> None:
    assert is_loopback(host) is (host in LOOPBACK)
    assert asked == []


def test_a_name_is_of_this_host_when_all_its_addresses_are(asked: list[str]) -> None:
    names = ("here", "mixed", "there", "nowhere", "localhost")
    assert [is_loopback(name, resolve=True) for name in names] == [True, False, False, False, False]
    assert asked == list(names)
    assert not is_loopback("*", resolve=True) and not is_loopback("", resolve=True)


@pytest.mark.parametrize("host", [*LOOPBACK[:3], *OTHERS[:6]])
def test_looking_up_an_address_changes_nothing(host: str) -> None:
    assert is_loopback(host, resolve=True) is (host in LOOPBACK)


def test_nobody_else_judges_what_is_loopback() -> None:
    where = Path(ps.__file__).parent
    files = {
        path.resolve()
        for top in (where, *(where / name for name in ("server", "worker", "protocol")))
        for path in top.rglob("*.py")
    }
    judges = re.compile(r"\)\.is_loopback|def _?is_loopback|startswith\(\"127\.")
    assert [path.name for path in files if judges.search(path.read_text())] == ["loopback.py"]
