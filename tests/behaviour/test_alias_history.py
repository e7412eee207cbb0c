"""An alias remembers its moves, and each of them can be undone."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import NUMBER
from tests.behaviour.backends import content
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


# On other storages than folders in the rest of the tests
pytestmark = pytest.mark.sample(1)

RECORD = "/_alias/best/1.0.0/best-1.0.0.alias.yaml"


@pytest.fixture
def uids(repository: audmodel.Repository, model_folder: Path) -> list[str]:
    """Three models, the first of which is published with the alias."""
    return [
        publish(model_folder, version=f"{n}.0.0", alias=None if n else "best")
        for n in range(3)
    ]


def test_moves(repository: audmodel.Repository, uids: list[str]) -> None:
    start = datetime.datetime.now(datetime.UTC)
    audmodel.set_alias("best", uids[1], author="me")
    # The same again, and what is refused, is no move
    audmodel.set_alias("best", uids[1], author="you")
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        audmodel.set_alias("best", "deadbeef-1.0.0")
    moves = audmodel.alias_history("best", repository=repository)
    assert [(move.previous, move.uid, move.author) for move in moves] == [
        (None, uids[0], "tester"),
        (uids[0], uids[1], "me"),
    ]
    for move in moves:
        assert move.date is not None
        assert move.date.tzinfo is datetime.UTC
        # The clock of the storage is that of this machine, its times are shorter
        assert abs(move.date - start) < datetime.timedelta(seconds=60)
        assert (move.url, move.rollback) == (None, False)


def test_job_that_moves_an_alias(
    repository: audmodel.Repository,
    uids: list[str],
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    for number in range(1, 4):
        monkeypatch.setenv("CI_JOB_URL", f"https://gitlab.com/jobs/{number}")
        if number == 1:
            publish(model_folder, version="9.0.0", alias="best")
        elif number == 2:
            audmodel.rollback("best")
        else:
            audmodel.set_alias("best", uids[1])
    assert [move.url for move in audmodel.alias_history("best")] == [
        *(None, "https://gitlab.com/jobs/1"),
        *("https://gitlab.com/jobs/2", "https://gitlab.com/jobs/3"),
    ]


@pytest.mark.sample(4)
def test_rollback(repository: audmodel.Repository, uids: list[str]) -> None:
    for uid in uids[1:]:
        audmodel.set_alias("best", uid)
    assert audmodel.rollback("best", author="me") == uids[1]
    assert audmodel.resolve_alias("best") == uids[1]
    assert audmodel.aliases(uids[1]) == ["best"]
    assert audmodel.aliases(uids[2]) == []
    last = audmodel.alias_history("best")[-1]
    assert (last.previous, last.uid, last.author) == (uids[2], uids[1], "me")
    assert last.rollback
    # Not to what was just undone
    assert audmodel.rollback("best") == uids[0]
    before = content(repository)
    with pytest.raises(
        audmodel.errors.InvalidInputError,
        match=rf"not known .* 'best' pointed to before '{uids[0]}'\. .*set_alias",
    ):
        audmodel.rollback("best")
    assert content(repository) == before


def test_what_does_not_exist(repository: audmodel.Repository, uids: list[str]) -> None:
    for ask in (audmodel.alias_history, audmodel.rollback):
        for name in ("unknown", "no alias", uids[0]):
            with pytest.raises(audmodel.errors.AliasNotFoundError, match=name):
                ask(name)
        with pytest.raises(TypeError, match="alias has to be a string"):
            ask(NUMBER)
    audmodel.set_alias("best", uids[1])
    header = f"/_uid/{uids[0].replace('-', '/', 1)}/{uids[0]}.header.yaml"
    with repository.connect() as backend:
        backend.delete_object(header, "*")
    before = content(repository)
    with pytest.raises(audmodel.errors.ModelNotFoundError, match=f"'{uids[0]}'"):
        audmodel.rollback("best")
    assert content(repository) == before


@pytest.mark.parametrize("author", [5, "\ud800", b"x"])
def test_author_that_cannot_be_stored(
    repository: audmodel.Repository, uids: list[str], author: Any
) -> None:
    audmodel.set_alias("best", uids[1])
    before = content(repository)
    with pytest.raises((TypeError, audmodel.errors.InvalidDataError), match="author"):
        audmodel.set_alias("best", uids[2], author=author)
    with pytest.raises((TypeError, audmodel.errors.InvalidDataError), match="author"):
        audmodel.rollback("best", author=author)
    assert content(repository) == before


def test_alias_that_earlier_releases_moved(
    repository: audmodel.Repository, uids: list[str]
) -> None:
    store(repository, RECORD, f"uid: {uids[1]}\n".encode())
    [move] = audmodel.alias_history("best")
    assert move == audmodel.AliasMove(uids[1])
    with pytest.raises(audmodel.errors.InvalidInputError, match=r"audmodel 1\.x"):
        audmodel.rollback("best")
    for time in ("2020-01-01T00:00Z", "2099-01-01T00:00Z"):
        with pytest.raises(audmodel.errors.AliasNotFoundError, match="not known"):
            audmodel.resolve_alias("best", at=time)
    # From then on there is one
    audmodel.set_alias("best", uids[2])
    assert audmodel.rollback("best") == uids[1]
    assert audmodel.resolve_alias("best", at="2099-01-01T00:00Z") == uids[1]


def test_damaged_history(repository: audmodel.Repository, uids: list[str]) -> None:
    store(repository, RECORD, f"uid: {uids[0]}\nhistory: [5]\n".encode())
    assert audmodel.resolve_alias("best") == uids[0]
    with pytest.raises(audmodel.errors.InvalidDocumentError, match="'best'"):
        audmodel.alias_history("best")
    with pytest.raises(audmodel.errors.InvalidDocumentError, match="'best'"):
        audmodel.rollback("best")
    audmodel.set_alias("best", uids[1])
    assert [move.uid for move in audmodel.alias_history("best")] == uids[:2]


def test_resolve_at_a_time(repository: audmodel.Repository, uids: list[str]) -> None:
    record = f"""
        uid: {uids[0]}
        history:
        - {{uid: {uids[0]}, date: '2026-01-01T00:00:00Z', author: me}}
        - {{uid: {uids[1]}, from: {uids[0]}, date: '2026-01-02T00:00:00Z', author: me}}
        - {{uid: {uids[2]}, from: {uids[1]}, author: me}}
        - {{uid: {uids[0]}, from: {uids[2]}, date: '2026-01-04T00:00:00Z', author: me}}
    """
    store(repository, RECORD, record.encode())
    for time, expected in (
        ("2026-01-01T00:00:00Z", uids[0]),
        ("2026-01-02T00:59:59+01:00", uids[0]),
        ("2026-01-04T00:00:00Z", uids[0]),
        (datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC), uids[0]),
    ):
        assert audmodel.resolve_alias("best", at=time) == expected
    for time, reason in (
        ("2025-12-31T23:59:59Z", "did not exist at 2025-12-31T23:59:59Z"),
        ("2026-01-02T00:00:00Z", "not known"),
        ("2026-01-03T00:00:00Z", "not known"),
    ):
        with pytest.raises(audmodel.errors.AliasNotFoundError, match=reason):
            audmodel.resolve_alias("best", at=time)
    for time in ("2026-01-01", "yesterday", "", datetime.datetime(2026, 1, 1)):
        with pytest.raises(audmodel.errors.InvalidInputError, match="'at' has to"):
            audmodel.resolve_alias("best", at=time)
    with pytest.raises(TypeError, match="'at' has to be"):
        audmodel.resolve_alias("best", at=NUMBER)
