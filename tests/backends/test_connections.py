"""Requests that are ended, and the time that is spent on repeats."""

from __future__ import annotations

import random
import time

import pytest

from audmodel import errors
from audmodel.core.backend.http import transfer
from audmodel.core.process import requests
from audmodel.core.process.requests import Requests
from tests.backends import proxy as faults
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.backends.test_remote import Storage
from tests.backends.test_remote import proxy as proxy
from tests.backends.test_remote import storage as storage


def test_ended_requests_adopt() -> None:
    outer, inner, innermost = Requests(), Requests(), Requests()
    inner.adopt(innermost)
    outer.cancel()
    assert not inner.cancelled
    outer.adopt(inner)
    assert inner.cancelled
    assert innermost.cancelled


def test_a_block_inside_ended_requests(storage: Storage) -> None:
    outer, inner = Requests(), Requests()
    with storage.backend(storage.server) as backend:
        backend.write_object("/a", [b"x"])
        outer.cancel()
        with outer.here(), inner.here(), pytest.raises(errors.RepositoryError):
            backend.read_object("/a", 10)
        assert inner.cancelled
        # Nothing else is
        assert backend.read_object("/a", 10) is not None


def test_a_reader_inside_ended_requests(storage: Storage) -> None:
    """One that was opened before, in work that nobody waits for any more."""
    outer = Requests()
    with storage.backend(storage.server) as backend:
        backend.write_object("/a", [bytes(1_000_000)])
        with backend.open_object("/a") as reader:
            assert reader is not None
            outer.cancel()
            with outer.here(), pytest.raises(errors.RepositoryError):
                reader.read(0, 100_000)


@pytest.mark.thorough
def test_progress_renews_the_time_for_repeats(
    storage: Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transfer with breaks in it may take longer than what never arrives."""
    size, step = 5_000_000, 600_000

    def cut(request: Request, forward: Forward) -> Response:
        time.sleep(0.15)
        response = forward()
        response.cut_after = step
        return response

    with storage.backend(proxy.host) as backend:
        backend.write_object("/a", [bytes(size)])
        with backend.open_object("/a") as reader:
            assert reader is not None
            monkeypatch.setattr(transfer, "BUDGET", 0.6)
            proxy.fault = cut
            start = time.monotonic()
            assert reader.read(0, size - 300_000) == bytes(size - 300_000)
            assert time.monotonic() - start > 2 * transfer.BUDGET
            # Without progress it ends
            proxy.fault = faults.break_before
            start = time.monotonic()
            with pytest.raises(errors.RepositoryUnreachableError):
                reader.read(0, size - 300_000)
            assert time.monotonic() - start < 5


def test_progress_makes_pauses_short_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(random, "uniform", lambda _, longest: longest)
    monkeypatch.setattr(requests, "wait", pauses.append)
    retry = transfer.Retry(reached=True)
    failure = transfer.RequestError(transfer.Kind.AMBIGUOUS, "no answer.")
    for _ in range(3):
        retry.pause(failure, "Could not read")
    retry.received(10**6)
    retry.pause(failure, "Could not read")
    assert pauses[0] < pauses[1] < pauses[2]
    assert pauses[3] == pauses[0]
