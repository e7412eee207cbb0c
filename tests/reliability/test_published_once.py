"""No clean-up takes an archive that was published, whenever its publisher died."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import datetime
import functools
import itertools
from pathlib import Path
import shutil
import threading
from typing import Any

import pytest

import audmodel
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.repository import claim_record
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


UID = audmodel.uid("torch", {"sampling_rate": 16000}, "1.0.0")
MODEL = ModelId(*UID.split("-"))
ARCHIVE = layout.archive_path(MODEL, "torch")
HEADER, META = (layout.record_path(MODEL, kind) for kind in ("header", "meta"))
CALLS = (
    "read_object",
    "create_object",
    "replace_object",
    "stat_object",
    "delete_object",
    "list_objects",
    "write_object",
)
# What somebody may delete by mistake, or not have restored yet
LOSSES = [{HEADER}, {HEADER, META}]


class DeathError(audmodel.errors.RepositoryError):
    """The process, or its connection, is gone."""


@contextlib.contextmanager
def dying(calls: int) -> Iterator[Callable[[], bool]]:
    """Nothing reaches the storage any longer after a number of calls.

    Yields:
        says whether it was so

    """
    left = calls
    is_dead = False

    def limited(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left, is_dead
            if not left:
                is_dead = True
                raise DeathError("The storage is gone.")
            left -= 1
            return method(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(FileSystem, name, limited(getattr(FileSystem, name)))
        with contextlib.suppress(DeathError):
            yield lambda: is_dead
    # What was not given up belongs to a process that has ended
    claim_record.own.clear()


def deaths(act: Callable[[], object]) -> Iterator[None]:
    """Let it die after each number of calls, until it lives."""
    for calls in itertools.count():
        with dying(calls) as is_dead:
            act()
        if not is_dead():
            assert calls > 5
            return
        yield


def a_year_later(repository: audmodel.Repository) -> set[str]:
    """Kinds of what is removed a year later."""
    now = FileSystem.now
    later = datetime.timedelta(365)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileSystem, "now", lambda self: now(self) + later)
        found = audmodel.leftovers(repository, remove=True)
    return {left.kind for left in found if left.removed}


def lose(repository: audmodel.Repository, paths: set[str]) -> None:
    for path in paths:
        Path(repository.host, repository.name + path).unlink()


def empty(repository: audmodel.Repository) -> None:
    lose(repository, set(content(repository)))


def restore(repository: audmodel.Repository, objects: dict[str, bytes]) -> None:
    empty(repository)
    for path, data in objects.items():
        store(repository, path, data)


def check_recovery(
    repository: audmodel.Repository, before: dict[str, bytes], root: Path
) -> None:
    """Whatever was lost is restored, and the model is what it was."""
    after = content(repository)
    assert after[ARCHIVE] == before[ARCHIVE]
    for path in (HEADER, META):
        if path not in after:
            store(repository, path, before[path])
    shutil.rmtree(audmodel.config.CACHE_ROOT, ignore_errors=True)
    assert files(audmodel.load(UID)) == files(root)


@pytest.mark.parametrize("loss", LOSSES, ids=len)
def test_publisher(
    repository: audmodel.Repository, model_folder: Path, loss: set[str]
) -> None:
    removed: list[set[str]] = []
    published = 0
    for _ in deaths(lambda: publish(model_folder)):
        before = content(repository)
        if HEADER in before:
            published += 1
            lose(repository, loss)
        kinds = a_year_later(repository)
        if HEADER in before:
            check_recovery(repository, before, model_folder)
        else:
            # Without a header nothing is in the way of the next one
            removed.append(kinds)
            assert publish(model_folder) == UID
        empty(repository)
    assert published > 1
    # What was left before is still known as that
    assert {"archive", "claim"} in removed


@pytest.mark.parametrize("loss", LOSSES, ids=len)
def test_publisher_in_place_of_one_that_died(
    repository: audmodel.Repository, model_folder: Path, loss: set[str]
) -> None:
    """It takes over the claim of one that had published."""
    claim = layout.record_path(MODEL, "claim")
    for _ in deaths(lambda: publish(model_folder)):
        before = content(repository)
        if HEADER in before and claim in before:
            break
        empty(repository)
    lose(repository, loss)
    etag = _etag(repository)
    kept = 0
    for _ in deaths(lambda: publish(model_folder)):
        # Until its own archive is there, which publishing anew may replace
        if _etag(repository) == etag:
            kept += 1
            a_year_later(repository)
            check_recovery(repository, before, model_folder)
        restore(repository, before)
        lose(repository, loss)
        etag = _etag(repository)
    assert kept > 3


def _etag(repository: audmodel.Repository) -> str:
    with repository.connect() as backend:
        state = backend.stat_object(ARCHIVE)
        return state.etag if state else ""


def test_repair(repository: audmodel.Repository, model_folder: Path) -> None:
    publish(model_folder)
    published = content(repository)
    lose(repository, {ARCHIVE})
    repaired = 0
    for _ in deaths(lambda: publish(model_folder, repair=True)):
        if ARCHIVE in content(repository):
            repaired += 1
            lose(repository, {HEADER})
            a_year_later(repository)
            check_recovery(repository, published, model_folder)
        restore(repository, published)
        lose(repository, {ARCHIVE})
    assert repaired


def test_cleaner(repository: audmodel.Repository, model_folder: Path) -> None:
    """It dies while it has the claim, and the archive is restored before the header."""
    publish(model_folder)
    published = content(repository)

    def clean() -> None:
        audmodel.leftovers(repository, min_age=0, remove=True, unproven=True)

    lose(repository, {HEADER})
    for _ in deaths(clean):
        for path in {ARCHIVE, META} - set(content(repository)):
            store(repository, path, published[path])
        a_year_later(repository)
        check_recovery(repository, published, model_folder)
        lose(repository, {HEADER})


def test_publisher_that_commits_while_a_cleaner_looks(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has published and died before the cleaner has the claim."""
    has_stored, goes_on = threading.Event(), threading.Event()
    claimed = claims.claimed
    before: dict[str, bytes] = {}

    def work() -> None:
        with contextlib.suppress(DeathError):
            publish(model_folder)

    publisher = threading.Thread(target=work)

    def storing(method: Callable[..., str | None]) -> Callable[..., str | None]:
        def call(*args: Any, **kwargs: Any) -> str | None:
            etag = method(*args, **kwargs)
            has_stored.set()
            assert goes_on.wait(20)
            return etag

        return call

    def mortal(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is publisher and HEADER in content(
                repository
            ):
                raise DeathError("The storage is gone.")
            return method(*args, **kwargs)

        return call

    def late(*args: Any, **kwargs: Any) -> Any:
        goes_on.set()
        publisher.join()
        before.update(content(repository))
        lose(repository, {HEADER})
        return claimed(*args, **kwargs)

    write = storing(FileSystem.write_object)
    monkeypatch.setattr(FileSystem, "write_object", write)
    for name in ("stat_object", "delete_object"):
        monkeypatch.setattr(FileSystem, name, mortal(getattr(FileSystem, name)))
    monkeypatch.setattr(claim_record, "is_alive", lambda _: False)
    publisher.start()
    assert has_stored.wait(20)
    monkeypatch.setattr(claims, "claimed", late)
    a_year_later(repository)
    monkeypatch.undo()
    assert HEADER in before
    check_recovery(repository, before, model_folder)
