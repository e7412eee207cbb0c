"""Several repositories: their order, and those that give no answer."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys
import threading
import time
from typing import Any
from typing import ClassVar
import warnings

import pytest

import audmodel
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.repository import outages
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.conftest import ROOT


class Down(FileSystem):
    """A host that gives no answer."""

    def _open(self) -> None:
        raise audmodel.errors.RepositoryUnreachableError(
            f"The host '{self.host}' of repository '{self.repository}' gives no answer."
        )


class Denied(FileSystem):
    def _open(self) -> None:
        raise audmodel.errors.RepositoryError("You are not allowed to read 'denied'.")


class Slow(FileSystem):
    """A host that takes long to give no answer."""

    done = threading.Event()

    def _open(self) -> None:
        self.done.wait(30)
        raise audmodel.errors.RepositoryUnreachableError("The host 'slow' is down.")


class Remote(FileSystem):
    """A host that answers, but is not a folder."""


@pytest.fixture(autouse=True)
def _backends() -> None:
    for name, backend_class in (
        ("down", Down),
        ("denied", Denied),
        ("slow", Slow),
        ("remote", Remote),
    ):
        audmodel.Repository.register(name, backend_class)


@pytest.fixture
def down() -> audmodel.Repository:
    return audmodel.Repository("lost", "nowhere", "down")


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(model_folder, alias="best")


def test_unreachable_repository_is_passed_over_with_one_warning(
    repository: audmodel.Repository,
    down: audmodel.Repository,
    uid: str,
    model_folder: Path,
) -> None:
    audmodel.config.REPOSITORIES = [down, repository]
    with pytest.warns(UserWarning, match="'nowhere'.*left out") as caught:
        assert audmodel.exists(uid)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="left out"):
        assert files(audmodel.load(uid)) == files(model_folder)
    with pytest.warns(UserWarning, match="left out"):
        assert audmodel.resolve_alias("best") == uid
    with pytest.warns(UserWarning, match="left out"):
        assert audmodel.versions(uid) == ["1.0.0"]
    # No warning once the model is there
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert audmodel.load(uid)
        assert audmodel.name(uid) == "torch"


class Silent(Down):
    """Backend of a host that takes its time to give no answer."""

    asked: ClassVar[list[str]] = []

    def _open(self) -> None:
        self.asked.append(self.host)
        super()._open()


@pytest.fixture
def silent() -> audmodel.Repository:
    Silent.asked.clear()
    audmodel.Repository.register("silent", Silent)
    return audmodel.Repository("lost", "silent.example", "silent")


def test_a_silent_host_is_not_asked_by_the_next_lookup(
    repository: audmodel.Repository, silent: audmodel.Repository, uid: str
) -> None:
    other = audmodel.Repository("other", silent.host, "silent")
    audmodel.config.REPOSITORIES = [silent, repository, other]
    with pytest.warns(UserWarning, match="left out"):
        assert audmodel.resolve_alias("best") == uid
    Silent.asked.clear()
    with pytest.warns(UserWarning, match="tried again in [0-9]+ s"):
        assert audmodel.load("best")
    with pytest.warns(UserWarning, match="tried again in [0-9]+ s") as caught:
        assert audmodel.versions(uid) == ["1.0.0"]
    assert len(caught) == 2
    assert Silent.asked == []


def test_a_silent_host_is_asked_if_there_is_no_other(
    repository: audmodel.Repository, silent: audmodel.Repository
) -> None:
    audmodel.config.REPOSITORIES = [silent]
    for number in (1, 2):
        with pytest.raises(
            audmodel.errors.RepositoryUnreachableError, match="gives no answer"
        ):
            audmodel.exists("deadbeef-1.0.0")
        assert len(Silent.asked) == number
    # Nor is it left out when it is named
    audmodel.config.REPOSITORIES = [repository]
    with pytest.raises(
        audmodel.errors.RepositoryUnreachableError, match="gives no answer"
    ):
        audmodel.models(repository=silent)
    assert len(Silent.asked) == 3


def test_a_silent_host_is_asked_later_and_when_it_answered(
    repository: audmodel.Repository,
    silent: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    audmodel.config.REPOSITORIES = [repository, silent]
    monkeypatch.setattr(outages, "SKIPPED", 0.1)
    for _ in range(2):
        with pytest.warns(UserWarning, match="left out"):
            assert not audmodel.exists("deadbeef-1.0.0")
        time.sleep(0.2)
    assert len(Silent.asked) == 2
    monkeypatch.setattr(outages, "SKIPPED", 60)
    with pytest.warns(UserWarning, match="left out"):
        assert not audmodel.exists("deadbeef-1.0.0")
    assert len(Silent.asked) == 2
    # One that answered to somebody else is asked at once
    audmodel.config.REPOSITORIES = [silent]
    monkeypatch.setattr(Silent, "_open", lambda self: None)
    monkeypatch.setattr(Silent, "read_object", lambda self, path, limit: None)
    assert not audmodel.exists("deadbeef-1.0.0")
    audmodel.config.REPOSITORIES = [repository, silent]
    assert not audmodel.exists("deadbeef-1.0.0")


def test_unreachable_repository_that_nobody_needs(
    repository: audmodel.Repository, down: audmodel.Repository, uid: str
) -> None:
    # The first repository has the model, the second one is not asked
    audmodel.config.REPOSITORIES = [repository, down]
    assert audmodel.exists(uid)
    assert audmodel.load(uid)
    assert audmodel.resolve_alias("best") == uid
    assert audmodel.update_meta(uid, {"a": 1}) == {"a": 1}
    audmodel.set_alias("best", uid)


def test_model_that_may_be_in_an_unreachable_repository(
    repository: audmodel.Repository, down: audmodel.Repository
) -> None:
    audmodel.config.REPOSITORIES = [repository, down]
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(audmodel.errors.ModelNotFoundError),
    ):
        audmodel.load("deadbeef-1.0.0")
    with pytest.warns(UserWarning, match="left out"):
        assert audmodel.exists("deadbeef-1.0.0") is False


def test_no_repository_can_be_reached(
    down: audmodel.Repository, cache: Path, model_folder: Path
) -> None:
    audmodel.config.REPOSITORIES = [down]
    for ask in (audmodel.exists, audmodel.load, audmodel.versions):
        with pytest.raises(audmodel.errors.RepositoryUnreachableError, match="nowhere"):
            ask("deadbeef-1.0.0")
    audmodel.config.REPOSITORIES = [down, audmodel.Repository("b", "other", "down")]
    with (
        pytest.warns(UserWarning, match="left out") as caught,
        pytest.raises(audmodel.errors.RepositoryUnreachableError, match="other"),
    ):
        audmodel.exists("deadbeef-1.0.0")
    assert len(caught) == 1
    # The one that is asked for is an error in any case
    with pytest.raises(audmodel.errors.RepositoryUnreachableError, match="nowhere"):
        publish(model_folder, repository=down)


def test_repository_that_cannot_be_used_is_an_error(
    repository: audmodel.Repository, uid: str, tmp_path: Path
) -> None:
    denied = audmodel.Repository("a", "denied", "denied")
    audmodel.config.REPOSITORIES = [denied, repository]
    with pytest.raises(audmodel.errors.RepositoryError, match="'denied'"):
        audmodel.exists(uid)
    missing = audmodel.Repository("missing", str(tmp_path), "file-system")
    audmodel.config.REPOSITORIES = [missing, repository]
    with pytest.raises(audmodel.errors.RepositoryNotFoundError, match="missing"):
        audmodel.exists(uid)


def test_nobody_waits_for_a_later_repository(
    repository: audmodel.Repository, uid: str, tmp_path: Path
) -> None:
    remote = audmodel.Repository("models", repository.host, "remote")
    slow = audmodel.Repository("b", "slow", "slow")
    audmodel.config.REPOSITORIES = [remote, slow, slow]
    Slow.done.clear()
    try:
        start = time.monotonic()
        assert audmodel.exists(uid)
        assert audmodel.resolve_alias("best") == uid
        assert time.monotonic() - start < 10
    finally:
        Slow.done.set()


def test_process_ends_before_a_later_repository_answers(
    repository: audmodel.Repository, uid: str
) -> None:
    code = """
import sys, threading, time
import audmodel
from audmodel.core.repository import outages
from audmodel.core.backend.filesystem import FileSystem

asked = threading.Event()

class Slow(FileSystem):
    def _open(self):
        asked.set()
        time.sleep(60)

class Remote(FileSystem):
    def _open(self):
        assert asked.wait(30)
        super()._open()

audmodel.Repository.register("slow", Slow)
audmodel.Repository.register("remote", Remote)
audmodel.config.REPOSITORIES = [
    audmodel.Repository("models", sys.argv[1], "remote"),
    audmodel.Repository("models", "nowhere", "slow"),
]
print(audmodel.exists(sys.argv[2]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, repository.host, uid],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=40,
    )
    assert result.stdout == "True\n"


def test_remote_repositories_are_asked_at_once(
    repository: audmodel.Repository, uid: str, cache: Path
) -> None:
    delay = 0.3

    class Late(FileSystem):
        def read_object(self, path: str, limit: int) -> Any:
            time.sleep(delay)
            return super().read_object(path, limit)

    audmodel.Repository.register("late", Late)
    late = audmodel.Repository("models", repository.host, "late")
    audmodel.config.REPOSITORIES = [late] * 8
    start = time.monotonic()
    assert audmodel.exists("deadbeef-1.0.0") is False
    assert delay <= time.monotonic() - start < 6 * delay


def test_order_among_remote_repositories(
    repository: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    repositories = []
    for number in range(3):
        (tmp_path / str(number) / "models").mkdir(parents=True)
        remote = audmodel.Repository("models", str(tmp_path / str(number)), "remote")
        uid = publish(model_folder, author=str(number), repository=remote)
        repositories.append(remote)
    audmodel.config.REPOSITORIES = repositories
    assert audmodel.author(uid) == "0"
    assert audmodel.repository(uid) == repositories[0]
