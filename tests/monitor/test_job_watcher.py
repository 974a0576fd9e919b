"""Promises of the watcher: one question a second for all, what is known stays, and silence is told."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ps.errors import ConnectTimeout
from ps.monitor.job_watcher import JobWatcher
from support.watched import job, worker


def test_what_is_known_stays_when_nobody_answers_and_there_is_news_again_later() -> None:
    now, answers = [0.0], list[Any]()

    def fetch() -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, dict)
        return answer

    watcher = JobWatcher(fetch, lambda: now[0], lambda: 1000.0 + now[0])
    assert watcher.seen is None and watcher.silence() == 0.0
    answers += [ConnectTimeout("nobody")]
    with pytest.raises(ConnectTimeout):
        watcher.look()
    answers += [job([worker(0)]), ConnectTimeout("no reply"), {"workers": 3}, ConnectTimeout("no reply")]
    watcher.look()
    first = watcher.seen
    assert first is not None and first.number == 1 and first.snapshot["done"] == 10

    def later() -> None:
        now[0] += 2.0
        if not answers:
            watcher.stop()

    watcher.run(later)
    last = watcher.seen
    assert last is not None and last.snapshot is first.snapshot and last.trouble == "no reply"
    assert watcher.silence() == 6.0
    answers += [job([worker(0, clock=30)])]
    watcher.look()
    again = watcher.seen
    assert again is not None and again.snapshot["done"] == 30 and not again.trouble and watcher.silence() == 0.0
    assert again.snapshot["now"]["steps_per_s"] == 3.33333


def test_it_stops_at_once_when_it_is_told() -> None:
    watcher, asked = JobWatcher(lambda: job([])), threading.Event()
    thread = threading.Thread(target=watcher.run, args=(asked.set,))
    thread.start()
    assert asked.wait(5.0)
    watcher.stop()
    thread.join(0.9)
    assert not thread.is_alive()
