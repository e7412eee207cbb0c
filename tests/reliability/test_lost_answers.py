"""An answer that is lost is no conflict."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
import random

import pytest

from audmodel import errors
from audmodel.core.backend import transfer
from tests.backends import proxy as faults
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.proxy import Answer
from tests.backends.proxy import Forward
from tests.backends.proxy import Request
from tests.reliability.remote import OPERATIONS
from tests.reliability.remote import Remote
from tests.reliability.remote import attempt
from tests.reliability.remote import remote


WRITES = ["publish", "set_alias", "update_meta"]


@pytest.fixture
def place(
    hasty: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Remote]:
    monkeypatch.setattr(transfer, "BUDGET", 5.0)
    with remote("s3", monkeypatch, tmp_path) as place:
        yield place


class Loss:
    """The answers to some of the writes are lost.

    Args:
        number: number of the first one
        count: number of answers in a row that are lost
        before: whether the write does not even arrive

    """

    def __init__(self, number: int, count: int, *, before: bool = False) -> None:
        self.seen = 0
        self._lost = range(number, number + count)
        self._before = before

    def __call__(self, request: Request, forward: Forward) -> Answer | None:
        if request.method not in ("PUT", "POST"):
            return forward()
        self.seen += 1
        if self.seen - 1 not in self._lost:
            return forward()
        if not self._before:
            forward()
        return None


@pytest.mark.parametrize("name", WRITES)
def test_every_answer_is_lost_once_and_twice(
    place: Remote, name: str, torture: int, count: Callable[[str, int], None]
) -> None:
    total = 0
    number = 0
    while True:
        losses = [
            Loss(number, length, before=before)
            for length in (1, 2, 3 + torture)
            for before in (False, True)
        ]
        for loss in losses:
            error = attempt(place, OPERATIONS[name], loss)
            # With patience every doubt is settled
            assert error is None
            total += 1
        number += 1
        if losses[0].seen < number:
            break
    assert number >= 2
    count("answers lost after a write, no false conflict", total)


@pytest.mark.parametrize("name", WRITES)
def test_all_answers_are_lost(
    place: Remote,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    monkeypatch.setattr(transfer, "BUDGET", 0.3)
    numbers = range(6) if torture else chance.sample(range(6), 2)
    for number in numbers:
        error = attempt(place, OPERATIONS[name], Loss(number, 10**6))
        # What can be looked up is known all the same
        assert error is None or isinstance(error, errors.RepositoryError)


@pytest.mark.parametrize("name", WRITES)
def test_nobody_can_look(
    place: Remote,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(transfer, "BUDGET", 0.3)

    def cut_off(request: Request, forward: Forward) -> Answer | None:
        if request.method in ("PUT", "POST"):
            forward()
            place.proxy.fault = faults.break_before
            return None
        return forward()

    error = attempt(place, OPERATIONS[name], cut_off)
    assert isinstance(error, errors.WriteUncertainError)


def test_random_losses(
    place: Remote,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    """Of all writes, a tenth or a third loses its answer."""
    rounds = 4 + 220 * torture
    lost = 0

    def fault(request: Request, forward: Forward) -> Answer | None:
        nonlocal lost
        answer = forward()
        if request.method in ("PUT", "POST") and chance.random() < 0.3:
            lost += 1
            return None
        return answer

    for index in range(rounds):
        error = attempt(place, OPERATIONS[WRITES[index % len(WRITES)]], fault)
        assert error is None or isinstance(error, errors.WriteUncertainError)
    count("answers lost after a write, no false conflict", lost)
