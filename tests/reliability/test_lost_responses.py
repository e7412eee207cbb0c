"""A response that is lost is no conflict."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from pathlib import Path
import random

import pytest

from audmodel import errors
from audmodel.core.backend.http import transfer
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.repository.lookup import open_registry
from audmodel.core.uid import ModelId
from tests.backends import proxy as faults
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.proxy import Forward
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.reliability.remote import OPERATIONS
from tests.reliability.remote import Remote
from tests.reliability.remote import attempt
from tests.reliability.remote import remote


# Of each family of faults
pytestmark = pytest.mark.sample(1)


WRITES = ["publish", "set_alias", "update_meta"]


@pytest.fixture
def storage(
    hasty: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Remote]:
    monkeypatch.setattr(transfer, "BUDGET", 5.0)
    with remote("s3", monkeypatch, tmp_path) as storage:
        yield storage


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

    def __call__(self, request: Request, forward: Forward) -> Response | None:
        if request.method not in ("PUT", "POST"):
            return forward()
        self.seen += 1
        if self.seen - 1 not in self._lost:
            return forward()
        if not self._before:
            forward()
        return None


def test_a_proxy_that_once_finds_nothing(storage: Remote) -> None:
    looks = 0

    def hide(request: Request, forward: Forward) -> Response | None:
        nonlocal looks
        if request.method != "HEAD":
            return forward()
        looks += 1
        return faults.status(404)(request, forward)

    # The archive is looked for before the upload, and again after the header
    assert attempt(storage, OPERATIONS["publish"], hide) is None
    assert looks >= 2


@pytest.mark.thorough
@pytest.mark.parametrize("name", WRITES)
def test_every_answer_is_lost_once_and_twice(
    storage: Remote, name: str, torture: int, count: Callable[[str, int], None]
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
            error = attempt(storage, OPERATIONS[name], loss)
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
    storage: Remote,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    monkeypatch.setattr(transfer, "BUDGET", 0.3)
    numbers = range(6) if torture else chance.sample(range(6), 2)
    for number in numbers:
        error = attempt(storage, OPERATIONS[name], Loss(number, 10**6))
        # What can be looked up is known all the same
        assert error is None or isinstance(error, errors.RepositoryError)


@pytest.mark.parametrize("name", WRITES)
def test_nobody_can_look(
    storage: Remote,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(transfer, "BUDGET", 0.3)

    def cut_off(request: Request, forward: Forward) -> Response | None:
        if request.method in ("PUT", "POST"):
            forward()
            storage.proxy.fault = faults.break_before
            return None
        return forward()

    error = attempt(storage, OPERATIONS[name], cut_off)
    assert isinstance(error, errors.WriteUncertainError)


def test_random_losses(
    storage: Remote,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    """Of all writes, a tenth or a third loses its answer."""
    rounds = 4 + 220 * torture
    lost = 0

    def fault(request: Request, forward: Forward) -> Response | None:
        nonlocal lost
        response = forward()
        if request.method in ("PUT", "POST") and chance.random() < 0.3:
            lost += 1
            return None
        return response

    for index in range(rounds):
        error = attempt(storage, OPERATIONS[WRITES[index % len(WRITES)]], fault)
        assert error is None or isinstance(error, errors.WriteUncertainError)
    count("answers lost after a write, no false conflict", lost)


# Deletions ---------------------------------------------------------------------


CLAIM = ModelId("deadbeef", "1.0.0")
ARCHIVE = layout.archive_path(CLAIM, "torch")


def deletes(request: Request) -> bool:
    """Whether it deletes a claim, and not an object that the storage is tried with."""
    return request.method == "DELETE" and "claim" in request.path


@pytest.fixture
def deletions(
    request: pytest.FixtureRequest,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Remote]:
    monkeypatch.setattr(transfer, "BUDGET", 2.0)
    with remote(request.param, monkeypatch, tmp_path) as storage:
        yield storage


@pytest.mark.parametrize("deletions", ["s3", "artifactory"], indirect=True)
def test_deletion_of_a_claim_does_not_hit_the_next_one(
    deletions: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        registry, other = (
            stack.enter_context(open_registry(deletions.repository)) for _ in range(2)
        )
        theirs = claims.claimed(other, CLAIM, ARCHIVE)

        def fault(request: Request, forward: Forward) -> Response | None:
            if not deletes(request):
                return forward()
            forward()
            # Somebody else begins before it is sent again
            deletions.proxy.fault = None
            taken.append(theirs.__enter__())
            return None

        taken: list[claims.Claim] = []
        with (
            deletions.fault(fault),
            claims.claimed(registry, CLAIM, ARCHIVE),
        ):
            pass
        monkeypatch.setattr(claims, "RENEW_INTERVAL", -1)
        [claim] = taken
        claim.fence()
        theirs.__exit__(None, None, None)
        path = layout.record_path(CLAIM, "claim")
        assert registry.backend.read_object(path, 1000) is None


@pytest.mark.parametrize("deletions", ["s3", "artifactory"], indirect=True)
def test_deletion_of_a_claim_that_did_not_arrive(deletions: Remote) -> None:
    lost = iter([True, True, False])

    def fault(request: Request, forward: Forward) -> Response | None:
        return None if deletes(request) and next(lost) else forward()

    with open_registry(deletions.repository) as registry:
        with deletions.fault(fault), claims.claimed(registry, CLAIM, ARCHIVE):
            pass
        path = layout.record_path(CLAIM, "claim")
        assert registry.backend.read_object(path, 1000) is None
        assert next(lost, None) is None


@pytest.mark.parametrize("deletions", ["s3", "artifactory"], indirect=True)
def test_claim_of_which_nobody_knows_whether_it_was_deleted(
    deletions: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(request: Request, forward: Forward) -> Response | None:
        if deletes(request):
            deletions.proxy.fault = faults.break_before
            return None
        return forward()

    with open_registry(deletions.repository) as registry:
        path = layout.record_path(CLAIM, "claim")
        with (
            deletions.fault(fault) as requests,
            claims.claimed(registry, CLAIM, ARCHIVE),
        ):
            pass
        if registry.backend.deletes_blindly:
            # Not without another look
            sent = [r for r in requests if r.startswith("DELETE") and "claim" in r]
            assert len(sent) == 1
        assert path in caplog.text
        assert registry.backend.read_object(path, 1000) is not None
