"""What a thread makes in time."""

from __future__ import annotations

from collections.abc import Iterator
import threading
import time

import pytest

from audmodel.core.process import requests
from audmodel.core.process.limited import Limited


def test_all_in_time() -> None:
    assert Limited(lambda: iter(range(3)), 10).result() == ([0, 1, 2], True)


def test_what_was_made_when_time_is_up() -> None:
    cancelled = threading.Event()

    def make() -> Iterator[int]:
        yield 1
        while not requests.cancelled():
            time.sleep(0.01)
        cancelled.set()
        yield 2

    assert Limited(make, 0.2).result() == ([1], False)
    assert cancelled.wait(10)


def test_nothing_more_is_made_after_the_end() -> None:
    made = []

    def make() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            time.sleep(0.01)
            yield number

    limited = Limited(make, 10)
    time.sleep(0.1)
    limited.cancel()
    items, is_whole = limited.result()
    assert is_whole
    assert made == items != list(range(1000))


def test_error() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        Limited(make, 10).result()


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Limited(lambda: [1], 10).result() == ([1], True)
