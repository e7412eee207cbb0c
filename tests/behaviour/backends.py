"""Fresh, empty repositories on every backend that the behaviour suite runs on.

To run the suite on one more backend,
write a context manager that takes the request of the fixture
and gives a repository that holds nothing,
and add it to ``BACKENDS`` under the name that tests show.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
import hashlib
from pathlib import Path
import secrets
from typing import Any
from typing import ClassVar

import audbackend
import pytest
import yaml

import audmodel
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from tests.backends import artifactory_server
from tests.backends import seaweedfs


# An argument of the wrong type
NUMBER: Any = 5


class Plain(audbackend.backend.Base):  # type: ignore[misc]
    """What a user writes who follows the documentation of audbackend.

    Its repositories are dictionaries in memory.
    It has only methods that ``audbackend`` asks for.

    """

    stores: ClassVar[dict[tuple[str, str], dict[str, bytes]]] = {}

    @property
    def _files(self) -> dict[str, bytes]:
        return self.stores[(self.host, self.repository)]

    def _create(self) -> None:
        self.stores[(self.host, self.repository)] = {}

    def _delete(self) -> None:
        del self.stores[(self.host, self.repository)]

    def _open(self) -> None:
        if (self.host, self.repository) not in self.stores:
            raise FileNotFoundError(f"There is no repository '{self.repository}'.")

    def _checksum(self, path: str) -> str:
        return hashlib.md5(self._files[path], usedforsecurity=False).hexdigest()

    def _date(self, path: str) -> str:
        return "2026-01-01"

    def _exists(self, path: str) -> bool:
        return path in self._files

    def _get_file(
        self, src_path: str, dst_path: str, num_workers: int, verbose: bool
    ) -> None:
        Path(dst_path).write_bytes(self._files[src_path])

    def _get_file_stream(self, src_path: str) -> Iterator[bytes]:
        yield self._files[src_path]

    def _ls(self, path: str) -> list[str]:
        return [name for name in self._files if name.startswith(path)]

    def _owner(self, path: str) -> str:
        return "somebody"

    def _put_file(
        self, src_path: str, dst_path: str, checksum: str, verbose: bool
    ) -> None:
        self._files[dst_path] = Path(src_path).read_bytes()

    def _remove_file(self, path: str) -> None:
        del self._files[path]

    def _size(self, path: str) -> int:
        return len(self._files[path])


@contextmanager
def file_system(request: pytest.FixtureRequest) -> Iterator[audmodel.Repository]:
    host: Path = request.getfixturevalue("tmp_path") / "host"
    (host / "models").mkdir(parents=True)
    yield audmodel.Repository("models", str(host), "file-system")


@contextmanager
def plain(request: pytest.FixtureRequest) -> Iterator[audmodel.Repository]:
    host = secrets.token_hex(8)
    audmodel.Repository.register("plain", Plain)
    Plain.create(host, "models")
    try:
        yield audmodel.Repository("models", host, "plain")
    finally:
        Plain.delete(host, "models")


@contextmanager
def s3(request: pytest.FixtureRequest) -> Iterator[audmodel.Repository]:
    server = seaweedfs.shared()
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setenv("MINIO_ACCESS_KEY", seaweedfs.ACCESS_KEY)
    monkeypatch.setenv("MINIO_SECRET_KEY", seaweedfs.SECRET_KEY)
    yield audmodel.Repository(server.bucket(), server.url, "s3")


@contextmanager
def artifactory(request: pytest.FixtureRequest) -> Iterator[audmodel.Repository]:
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setenv("ARTIFACTORY_USERNAME", "tester")
    monkeypatch.setenv("ARTIFACTORY_API_KEY", "secret")
    with artifactory_server.artifactory(tester=artifactory_server.User("secret")) as (
        server
    ):
        yield audmodel.Repository("models", server.url, "artifactory")


BACKENDS: dict[
    str,
    Callable[[pytest.FixtureRequest], AbstractContextManager[audmodel.Repository]],
] = {
    "file-system": file_system,
    "plain": plain,
    "s3": s3,
    "artifactory": artifactory,
}


def content(repository: audmodel.Repository) -> dict[str, bytes]:
    """All objects of a repository."""
    objects = {}
    with repository.connect() as backend:
        for path in backend.list_objects("/"):
            with backend.open_object(path) as reader:
                assert reader is not None
                objects[path] = bytes(reader.read(0, reader.size))
    return objects


def store(repository: audmodel.Repository, path: str, data: bytes) -> None:
    """Store an object behind the back of the registry."""
    with repository.connect() as backend:
        backend.write_object(path, [data])


def forget_archive(repository: audmodel.Repository, uid: str) -> None:
    """Let the header of a model be one of an earlier release."""
    path = layout.record_path(ModelId(*uid.split("-", 1)), "header")
    header = yaml.safe_load(content(repository)[path])
    del header["archive"]
    store(repository, path, yaml.safe_dump(header).encode())


def files(root: Path | str) -> dict[str, bytes]:
    """All files of a folder."""
    root = Path(root)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def publish(root: Path, **kwargs: Any) -> str:
    """Publish a model for which only what matters to a test is said."""
    arguments: dict[str, Any] = {
        "name": "torch",
        "params": {"sampling_rate": 16000},
        "version": "1.0.0",
        "author": "tester",
        **kwargs,
    }
    name, params, version = (
        arguments.pop(key) for key in ("name", "params", "version")
    )
    return audmodel.publish(str(root), name, params, version, **arguments)
