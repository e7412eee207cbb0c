"""How often, and after which pauses, a request is sent once more."""

from __future__ import annotations

import io
import random
import time

import pytest

from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.http import transfer
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import Retry
from audmodel.core.process import requests
from tests.threads import only_here


class Clock:
    """Time that passes in pauses alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(random, "uniform", lambda _, longest: longest)
    monkeypatch.setattr(requests, "wait", clock.wait)
    monkeypatch.setattr(time, "monotonic", only_here(time.monotonic, lambda: clock.now))
    return clock


def attempts(retry: Retry, failure: RequestError) -> int:
    """Number of attempts until it gives up."""
    count = 0
    while True:
        count += 1
        try:
            retry.pause(failure, "Could not read '/a'")
        except RepositoryError:
            return count


def failure(kind: Kind, retry_after: float = 0) -> RequestError:
    return RequestError(kind, "no response", None, retry_after)


@pytest.mark.parametrize("kind", [Kind.AMBIGUOUS, Kind.BUSY, Kind.NOT_REACHED])
def test_pauses_double_up_to_a_limit_until_the_budget_is_spent(
    clock: Clock, kind: Kind
) -> None:
    attempts(Retry(reached=True), failure(kind))
    assert clock.pauses[:7] == [0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert set(clock.pauses[7:]) <= {5}
    spent = clock.now - 1000
    assert transfer.BUDGET - 5 < spent <= transfer.BUDGET


@pytest.mark.parametrize("kind", [Kind.DENIED, Kind.ABSENT, Kind.OTHER, Kind.CONDITION])
def test_what_cannot_get_better_is_not_sent_again(clock: Clock, kind: Kind) -> None:
    assert attempts(Retry(reached=True), failure(kind)) == 1
    assert clock.pauses == []


def test_host_that_never_responded_is_soon_given_up(clock: Clock) -> None:
    assert attempts(Retry(reached=False), failure(Kind.NOT_REACHED)) == 3
    # Others show that there is a host
    assert attempts(Retry(reached=False), failure(Kind.AMBIGUOUS)) > 3


def test_host_that_never_responded_and_asks_for_time(clock: Clock) -> None:
    limit = transfer.CONNECT_BUDGET / 2
    retry = Retry(reached=False)
    assert attempts(retry, failure(Kind.NOT_REACHED, limit + 0.1)) == 1
    assert attempts(Retry(reached=False), failure(Kind.NOT_REACHED, limit)) == 2


def test_server_says_how_long_to_wait(clock: Clock) -> None:
    retry = Retry(reached=True)
    retry.pause(failure(Kind.BUSY, 3), "Could not read '/a'")
    retry.pause(failure(Kind.BUSY, 0.1), "Could not read '/a'")
    assert clock.pauses == [3, 0.4]
    with pytest.raises(RepositoryUnreachableError, match="'/a': no response"):
        retry.pause(failure(Kind.BUSY, transfer.BUDGET), "Could not read '/a'")


def test_ended_requests_are_not_sent_again(clock: Clock) -> None:
    group = requests.Requests()
    with group.here():
        group.cancel()
        assert attempts(Retry(reached=True), failure(Kind.AMBIGUOUS)) == 1


def test_bytes_count_in_sum(clock: Clock) -> None:
    retry = Retry(reached=False)
    for _ in range(2):
        retry.pause(failure(Kind.NOT_REACHED), "Could not read '/a'")
    retry.received(transfer._PROGRESS - 1)
    retry.received(1)
    assert attempts(retry, failure(Kind.NOT_REACHED)) > 3
    assert clock.pauses[2] == 0.2


def test_progress_renews_the_budget(clock: Clock) -> None:
    retry = Retry(reached=True)
    clock.now += transfer.BUDGET - 1
    retry.received(transfer._PROGRESS)
    clock.now += 2
    retry.pause(failure(Kind.AMBIGUOUS), "Could not read '/a'")
    # One more byte is no progress
    retry.received(1)
    retry.pause(failure(Kind.AMBIGUOUS), "Could not read '/a'")
    assert clock.pauses == [0.2, 0.4]


@pytest.mark.parametrize("limit", [99, 100])
def test_body_of_unknown_length(limit: int) -> None:
    body = transfer.read_body(io.BytesIO(b"x" * 100), limit)
    assert body == (None if limit < 100 else b"x" * 100)


def test_body_that_arrives_in_pieces() -> None:
    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(3)

    data = bytes(range(100))
    assert transfer.read_body(Slow(data), 100) == data
    view = memoryview(bytearray(100))
    counts: list[int] = []
    transfer.fill(Slow(data), view, counts.append)
    assert (bytes(view), sum(counts)) == (data, 100)
    with pytest.raises(RequestError, match="ended early") as info:
        transfer.fill(Slow(data), memoryview(bytearray(101)))
    assert info.value.kind is Kind.AMBIGUOUS
