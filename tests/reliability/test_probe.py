"""A storage without conditional writes is detected, and refused."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import itertools
from pathlib import Path
from typing import Any
import warnings

import pytest

import audmodel
from audmodel.core.backend import conditions
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.backend.objects import StoredObject
from audmodel.core.backend.reader import FileReader
from audmodel.core.repository import probe
from audmodel.errors import RepositoryError
from audmodel.errors import UnprotectedRepositoryError
from tests.backends import rclone
from tests.backends.conftest import forget as forget
from tests.backends.conftest import keys as keys
from tests.behaviour.backends import BACKENDS
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish


# Of each family of faults
pytestmark = pytest.mark.sample(1)


@pytest.fixture
def careless(tmp_path: Path, cache: Path, keys: None) -> Iterator[audmodel.Repository]:
    """A repository on a store that ignores all conditions, and says it were AWS."""
    with rclone.serve(tmp_path) as url:
        repository = audmodel.Repository(rclone.BUCKET, url, "s3")
        audmodel.config.REPOSITORIES = [repository]
        yield repository


@pytest.mark.parametrize("name", ["file-system", "s3"])
def test_good_store(request: pytest.FixtureRequest, name: str) -> None:
    with BACKENDS[name](request) as repository:
        report = audmodel.check_repository(repository)
        assert report.ok, str(report)
        assert f"1 of {conditions.RACERS} concurrent writers succeeded" in str(report)
        assert repr(repository) in str(report)
        assert "FAIL" not in str(report)
        assert report.checks[-1].name == "copy a range of a large object"
        assert content(repository) == {}


@pytest.mark.parametrize("name", ["artifactory", "plain"])
def test_store_that_cannot_do_it(request: pytest.FixtureRequest, name: str) -> None:
    with BACKENDS[name](request) as repository:
        report = audmodel.check_repository(repository)
        # Whatever luck the writers had
        assert not report.ok
        assert "Let " in report.no_conditional_writes
        assert report.no_conditional_writes in str(report)
        others = [check for check in report.checks if "if" not in check.name]
        assert [check.ok for check in others] == [True, True, True]
        assert content(repository) == {}


def stored(tmp_path: Path) -> set[str]:
    """Files that the careless store holds."""
    return {path.name for path in (tmp_path / "data").rglob("*") if path.is_file()}


@pytest.mark.thorough
def test_careless_store(careless: audmodel.Repository, tmp_path: Path) -> None:
    report = audmodel.check_repository(careless)
    assert not report.ok
    failed = {check.name for check in report.checks if not check.ok}
    # Its answers about ranges are wrong as well in some releases
    assert failed >= {
        "create if absent",
        "replace if unchanged",
        "replace what is missing",
    }
    assert "FAIL create if absent" in str(report)
    assert stored(tmp_path) == set()


@pytest.mark.thorough
def test_careless_store_is_refused(
    careless: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnprotectedRepositoryError, match="unprotected: true") as info:
        publish(model_folder, alias="best")
    assert careless.host in str(info.value)
    assert stored(tmp_path) == set()


@pytest.mark.thorough
def test_careless_store_that_is_wanted(
    careless: audmodel.Repository, home: Path, model_folder: Path
) -> None:
    config = home / ".config" / "audmodel.yaml"
    config.parent.mkdir()
    config.write_text(
        f"repositories: [{{name: {careless.name}, host: '{careless.host}', "
        "backend: s3, unprotected: true}]",
        encoding="utf-8",
    )
    vars(audmodel.config).update(_repositories=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uid = publish(model_folder, alias="best", meta={"a": 1})
        audmodel.update_meta(uid, {"b": 2})
    assert audmodel.meta("best") == {"a": 1, "b": 2}
    assert files(audmodel.load("best")) == files(model_folder)
    # Nobody else may write there
    audmodel.config.REPOSITORIES = [careless]
    assert files(audmodel.load("best")) == files(model_folder)
    for call in (
        lambda: audmodel.update_meta(uid, {"c": 3}),
        lambda: audmodel.set_alias("other", uid),
    ):
        with pytest.raises(UnprotectedRepositoryError):
            call()
    assert audmodel.meta(uid) == {"a": 1, "b": 2}
    assert audmodel.aliases(uid) == ["best"]


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_configuration_that_says_something_else(home: Path, value: object) -> None:
    config = home / ".config" / "audmodel.yaml"
    config.parent.mkdir()
    config.write_text(
        "repositories: [{name: m, host: /h, backend: s3, unprotected: "
        f"{'null' if value is None else value!r}}}]",
        encoding="utf-8",
    )
    with pytest.raises(audmodel.errors.ConfigurationError, match="true or false"):
        _ = audmodel.config.REPOSITORIES


def test_what_is_no_repository() -> None:
    with pytest.raises(TypeError, match="has to be an"):
        audmodel.check_repository(5)  # type: ignore[arg-type]


def test_no_such_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="does not exist"):
        audmodel.check_repository(
            audmodel.Repository("none", str(tmp_path), "file-system")
        )


# Stores with one fault each --------------------------------------------------


class Stale(FileSystem):
    """Reads what was there before the last write."""

    def read_object(self, path: str, limit: int) -> StoredObject | None:
        before: dict[str, Any] = self.__dict__.setdefault("before", {})
        current = super().read_object(path, limit)
        previous: StoredObject | None = before.get(path)
        before[path] = current
        return previous


class LateList(FileSystem):
    """Lists what was there when it was asked the last time."""

    def list_objects(self, folder: str) -> list[str]:
        before: dict[str, Any] = self.__dict__.setdefault("listed", {})
        current = super().list_objects(folder)
        previous: list[str] = before.get(folder, [])
        before[folder] = current
        return previous


class Undying(FileSystem):
    """Deletes nothing."""

    def delete_object(self, path: str, etag: str) -> bool:
        return True


class Shifted(FileSystem):
    """Gives other ranges than it is asked for."""

    @contextlib.contextmanager
    def open_object(self, path: str, *, tmp_root: str | None = None) -> Iterator[Any]:
        class Reader(FileReader):
            def _readinto(self, offset: int, view: memoryview) -> None:
                super()._readinto(offset + 1, view)

        with open(self._expand(path), "rb") as file:
            yield Reader(file, path)


class Truncated(FileSystem):
    """Stores a part of what it is given."""

    def write_object(self, path: str, chunks: Any, **arguments: Any) -> str | None:
        return super().write_object(path, itertools.islice(chunks, 0), **arguments)


class Forgetful(FileSystem):
    """Does not find large objects."""

    @contextlib.contextmanager
    def open_object(self, path: str, *, tmp_root: str | None = None) -> Iterator[Any]:
        yield None


class Broken(FileSystem):
    """Cannot read large objects."""

    @contextlib.contextmanager
    def open_object(self, path: str, *, tmp_root: str | None = None) -> Iterator[Any]:
        raise RepositoryError("Out of order.")
        yield


class SomebodyElses(FileSystem):
    """Keeps what a loser wrote."""

    def create_object(self, path: str, data: bytes) -> bool:
        created = super().create_object(path, data)
        if created:
            super().write_object(path, [b"other"])
        return created


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Stale, "reading a new object"),
        (LateList, "listing new objects"),
        (Undying, "reading a deleted object"),
        (Undying, "listing deleted objects"),
        (Shifted, "1 bytes from offset 0 on are wrong"),
        (Truncated, "instead of"),
        (Forgetful, "instead of"),
        (Broken, "Out of order."),
        (SomebodyElses, "the object of another one is stored"),
    ],
)
def test_fault(
    repository: audmodel.Repository, backend: type[FileSystem], message: str
) -> None:
    with backend(repository.host, repository.name) as opened:
        checks = probe.probe(opened)
    report = probe.RepositoryReport("it", checks)
    assert not report.ok
    assert message in str(report)
