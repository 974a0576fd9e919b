"""Error codes: what is raised for an Error or a failed job is one line, whatever a peer said."""

from __future__ import annotations

import pytest

from ps.errors import Evicted, PeerLost, Refused, ServerLost
from ps.protocol.error_codes import failure, refusal
from ps.protocol.messages import Error, View


@pytest.mark.parametrize(
    ("code", "text", "line"),
    [
        ("evicted", "gone", "server 0: gone"),
        ("evicted", "gone\n  for good", "server 0: gone for good"),
        ("odd", "\x1b[31mred\x00", "server 0: \N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"),
        ("odd", "", "server 0: refused, without a reason (odd)"),
        ("\x07", " ", "server 0: refused, without a reason (\N{REPLACEMENT CHARACTER})"),
    ],
)
def test_what_a_peer_refuses_with_is_one_line_that_says_something(code: str, text: str, line: str) -> None:
    raised = refusal(Error(1, code, text), "server 0")  # type: ignore[arg-type]
    assert type(raised) is (Evicted if code == "evicted" else Refused)
    assert str(raised) == line


@pytest.mark.parametrize(
    ("code", "kind", "line"),
    [
        ("server-lost", ServerLost, "refused, without a reason (server-lost)"),
        ("", PeerLost, "refused, without a reason"),
    ],
)
def test_a_job_that_has_failed_without_a_reason_says_so(code: str, kind: type[Exception], line: str) -> None:
    raised = failure(View(1, "failed", code, "", {}, ()))  # type: ignore[arg-type]
    assert type(raised) is kind and str(raised) == line
