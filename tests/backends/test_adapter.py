"""The backend for folders, and the one that makes do with what a class has."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import errno
import fcntl
import os
from pathlib import Path
import time
from typing import Any

import audbackend
import pytest

import audmodel
from audmodel.core.backend.objects import ANY
from audmodel.errors import RepositoryError
from tests.behaviour.backends import Plain
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter
from tests.users import let_in
from tests.users import needs_root


@pytest.fixture(params=["file-system", "plain"])
def any_repository(
    request: pytest.FixtureRequest, repository: audmodel.Repository
) -> audmodel.Repository:
    if request.param == "plain":
        audmodel.Repository.register("plain", Plain)
        host = str(request.getfixturevalue("tmp_path"))
        Plain.create(host, "models")
        repository = audmodel.Repository("models", host, "plain")
        audmodel.config.REPOSITORIES = [repository]
    return repository


@pytest.fixture
def folder(repository: audmodel.Repository) -> Path:
    return Path(repository.host) / "models"


# Both ----------------------------------------------------------------------


def test_small_objects(any_repository: audmodel.Repository) -> None:
    with any_repository.connect() as backend:
        assert backend.read_object("/a/b", 10) is None
        assert backend.create_object("/a/b", b"one") is True
        assert backend.create_object("/a/b", b"two") is False
        stored = backend.read_object("/a/b", 10)
        assert stored is not None
        assert stored.data == b"one"
        assert backend.replace_object("/a/b", b"two", "other") is False
        assert backend.replace_object("/a/b", b"two", stored.etag) is True
        assert backend.replace_object("/a/b", b"three", stored.etag) is False
        stored = backend.read_object("/a/b", 3)
        assert stored is not None
        assert stored.data == b"two"
        with pytest.raises(RepositoryError, match="/a/b"):
            backend.read_object("/a/b", 2)
        backend.delete_object("/a/b", ANY)
        backend.delete_object("/a/b", ANY)
        assert backend.read_object("/a/b", 10) is None
        assert backend.replace_object("/a/b", b"x", stored.etag) is False
    assert content(any_repository) == {}


def test_large_objects(any_repository: audmodel.Repository) -> None:
    data = bytes(range(256)) * 4096
    with any_repository.connect() as backend:
        with backend.open_object("/a") as reader:
            assert reader is None
        backend.write_object(
            "/a", (data[n : n + 1000] for n in range(0, len(data), 1000))
        )
        with backend.open_object("/a") as reader:
            assert reader is not None
            assert reader.size == len(data)
            assert bytes(reader.read(0, len(data))) == data
            assert bytes(reader.read(255, 3)) == data[255:258]
            assert data.endswith(reader.tail)
            reader.forget_tail()
            assert data.endswith(reader.tail)
        backend.write_object("/a", [])
        with backend.open_object("/a") as reader:
            assert reader is not None
            assert (reader.size, reader.tail) == (0, b"")


def test_content_that_fails(any_repository: audmodel.Repository) -> None:
    def chunks() -> Any:
        yield b"one"
        raise error

    errors = [RuntimeError("no more"), OSError(5, "no more"), KeyboardInterrupt()]
    with any_repository.connect() as backend:
        backend.write_object("/a", [b"old"])
        for error in errors:
            with pytest.raises(type(error)) as info:
                backend.write_object("/a", chunks())
            assert info.value is error
    assert content(any_repository) == {"/a": b"old"}


def test_list(any_repository: audmodel.Repository) -> None:
    with any_repository.connect() as backend:
        assert backend.list_objects("/a/") == []
        for path in ("/a/b/c", "/a/d", "/ab/e"):
            backend.create_object(path, b"")
        assert sorted(backend.list_objects("/a/")) == ["/a/b/c", "/a/d"]
        assert sorted(backend.list_objects("/")) == ["/a/b/c", "/a/d", "/ab/e"]


def test_urls(any_repository: audmodel.Repository) -> None:
    with any_repository.connect() as backend:
        assert backend.object_url("/a/b") == f"{any_repository.host}/models/a/b"


# A folder ------------------------------------------------------------------


def test_host_in_the_home_folder(home: Path, model_folder: Path) -> None:
    (home / "host" / "models").mkdir(parents=True)
    repository = audmodel.Repository("models", "~/host", "file-system")
    audmodel.config.REPOSITORIES = [repository]
    uid = publish(model_folder)
    assert audmodel.url(uid).startswith(str(home / "host" / "models"))


def test_file_in_the_way_of_a_folder(
    repository: audmodel.Repository, folder: Path
) -> None:
    (folder / "a").write_bytes(b"")
    with repository.connect() as backend:
        assert backend.read_object("/a/b", 10) is None
        with backend.open_object("/a/b") as reader:
            assert reader is None
        for change in (
            lambda: backend.create_object("/a/b", b""),
            lambda: backend.write_object("/a/b", [b""]),
            lambda: backend.delete_object("/a/b", ANY),
            lambda: backend.list_objects("/a/"),
            lambda: backend.replace_object("/a/b", b"", ""),
        ):
            with pytest.raises(RepositoryError, match="/a"):
                change()


def test_folder_in_place_of_an_object(
    repository: audmodel.Repository, folder: Path
) -> None:
    (folder / "a").mkdir()
    with repository.connect() as backend:
        with pytest.raises(RepositoryError, match="Is a directory"):
            backend.read_object("/a", 10)
        with pytest.raises(RepositoryError, match="Is a directory"):
            backend.open_object("/a").__enter__()
        with pytest.raises(RepositoryError, match="directory"):
            backend.write_object("/a", [b""])
        assert backend.create_object("/a", b"") is False
    assert os.listdir(folder) == ["a"]


def test_full_disk(
    repository: audmodel.Repository,
    folder: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(fd: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(RepositoryError, match=r"claim\.yaml.*No space left"):
            publish(model_folder)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    publish(model_folder)


def test_object_that_shrinks_while_it_is_read(
    repository: audmodel.Repository, folder: Path
) -> None:
    with repository.connect() as backend:
        backend.write_object("/a", [bytes(1_000_000)])
        with backend.open_object("/a") as reader:
            assert reader is not None
            os.truncate(folder / "a", 1000)
            with pytest.raises(RepositoryError, match="changed while it was read"):
                reader.read(0, 5000)


def test_object_that_is_replaced_while_it_is_read(
    repository: audmodel.Repository, folder: Path
) -> None:
    with repository.connect() as backend:
        backend.write_object("/a", [b"a" * 1_000_000])
        with backend.open_object("/a") as reader:
            assert reader is not None
            backend.write_object("/a", [b"b" * 10])
            assert bytes(reader.read(0, 10)) == b"a" * 10
            assert reader.size == 1_000_000


def test_temporary_files_of_the_dead_and_of_the_living(
    repository: audmodel.Repository, folder: Path
) -> None:
    (folder / ".a~dead").write_bytes(b"")
    (folder / ".ab~dead").write_bytes(b"")
    (folder / ".a~link").symlink_to("/etc/passwd")
    with open(folder / ".a~alive", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with repository.connect() as backend:
            backend.write_object("/a", [b"x"])
    assert sorted(os.listdir(folder)) == [".ab~dead", ".a~alive", ".a~link", "a"]


def test_somebody_tidies_up_before_a_new_file_is_locked(
    repository: audmodel.Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    removed: list[Path] = []

    def late(fd: int, operation: int) -> None:
        if not removed:
            (temporary,) = folder.glob(".a~*")
            temporary.unlink()
            removed.append(temporary)
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with repository.connect() as backend:
        backend.write_object("/a", [b"x"])
    assert os.listdir(folder) == ["a"]
    assert len(removed) == 1


def test_folder_without_locks(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flock = fcntl.flock

    def refuse(fd: Any, operation: int) -> None:
        # As network file systems that lock only files open for writing
        if os.path.isdir(f"/proc/self/fd/{fd if isinstance(fd, int) else fd.fileno()}"):
            raise OSError(9, "Bad file descriptor")
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)
    uid = publish(model_folder, meta={"a": 1}, alias="best")
    assert audmodel.update_meta(uid, {"b": 2}) == {"a": 1, "b": 2}
    assert files(audmodel.load("best")) == files(model_folder)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_neither_links_nor_locks(
    number: int,
    repository: audmodel.Repository,
    folder: Path,
    model_folder: Path,
    no_links: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    uid = publish(model_folder, meta={"a": 1}, alias="best")
    with pytest.raises(audmodel.errors.ModelExistsError):
        publish(model_folder)
    assert audmodel.update_meta(uid, {"b": 2}) == {"a": 1, "b": 2}
    assert files(audmodel.load("best")) == files(model_folder)
    (warning,) = [text for text in caplog.messages if "one process at a time" in text]
    assert str(folder) in warning


def test_creating_the_same_object_without_links(
    repository: audmodel.Repository,
    folder: Path,
    no_links: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace = os.replace

    def slowly(source: str, target: str) -> None:
        time.sleep(0.02)
        replace(source, target)

    monkeypatch.setattr(os, "replace", slowly)
    with repository.connect() as backend:

        def create(number: int) -> bool:
            return backend.create_object("/a/b", bytes([number]))

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(create, range(8)))
    assert results.count(True) == 1
    assert (folder / "a" / "b").read_bytes() == bytes([results.index(True)])
    assert os.listdir(folder / "a") == ["b"]


def test_trouble_that_is_no_lack_of_links_or_locks(
    repository: audmodel.Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with repository.connect() as backend:
        backend.write_object("/a", [b"x"])
        stored = backend.read_object("/a", 1)
        assert stored is not None
        monkeypatch.setattr(os, "link", fail)
        with pytest.raises(RepositoryError, match=r"/b.*Input/output error"):
            backend.create_object("/b", b"y")
        monkeypatch.setattr(fcntl, "flock", fail)
        with pytest.raises(RepositoryError, match=r"/a.*Input/output error"):
            backend.replace_object("/a", b"y", stored.etag)
    assert (folder / "a").read_bytes() == b"x"
    assert not (folder / "b").exists()


# A class that a user registered --------------------------------------------


def test_errors_of_the_class(repository: audmodel.Repository) -> None:
    class Broken(Plain):
        def _exists(self, path: str) -> bool:
            raise PermissionError("You are not allowed to do this.")

        _ls = _exists  # type: ignore[assignment]

    audmodel.Repository.register("broken", Broken)
    Broken.create("somewhere", "models")
    audmodel.config.REPOSITORIES = [
        audmodel.Repository("models", "somewhere", "broken")
    ]
    with pytest.raises(RepositoryError, match="not allowed to do this") as info:
        audmodel.exists("deadbeef-1.0.0")
    assert isinstance(info.value, audbackend.BackendError)
    assert isinstance(info.value.exception, PermissionError)
    with pytest.raises(RepositoryError, match="Could not list"):
        audmodel.versions("deadbeef")


def test_class_that_says_that_a_folder_is_missing(
    repository: audmodel.Repository,
) -> None:
    class Strict(Plain):
        def _ls(self, path: str) -> list[str]:
            raise FileNotFoundError(path)

    audmodel.Repository.register("strict", Strict)
    Strict.create("somewhere", "models")
    audmodel.config.REPOSITORIES = [
        audmodel.Repository("models", "somewhere", "strict")
    ]
    assert audmodel.versions("deadbeef") == []


def test_class_that_raises_our_errors(repository: audmodel.Repository) -> None:
    class Down(Plain):
        def _open(self) -> None:
            raise audmodel.errors.RepositoryUnreachableError("The host is down.")

    audmodel.Repository.register("down", Down)
    audmodel.config.REPOSITORIES = [audmodel.Repository("models", "somewhere", "down")]
    with pytest.raises(audmodel.errors.RepositoryUnreachableError, match="is down"):
        audmodel.exists("deadbeef-1.0.0")


def test_folder_for_temporary_files(
    repository: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    seen: list[str] = []

    class Watching(Plain):
        def _put_file(
            self, src_path: str, dst_path: str, checksum: str, verbose: bool
        ) -> None:
            if dst_path.endswith(".zip"):
                seen.append(src_path)
            super()._put_file(src_path, dst_path, checksum, verbose)

    audmodel.Repository.register("plain", Watching)
    Watching.create("somewhere", "models")
    audmodel.config.REPOSITORIES = [audmodel.Repository("models", "somewhere", "plain")]
    publish(model_folder, tmp_root=str(tmp_path / "new" / "tmp"))
    assert len(seen) == 1
    assert seen[0].startswith(str(tmp_path / "new" / "tmp"))
    assert list((tmp_path / "new" / "tmp").iterdir()) == []


def test_folder_for_temporary_files_that_cannot_be_made(
    any_repository: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "tmp"
    with pytest.raises(audmodel.errors.InvalidInputError, match=f"tmp_root.*{folder}"):
        publish(model_folder, tmp_root=str(folder))
    assert content(any_repository) == {}


@needs_root
def test_repository_that_is_read_only(
    repository: audmodel.Repository,
    python: Interpreter,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    uid = publish(model_folder)
    before = content(repository)
    let_in(tmp_path)
    code = """
        import tempfile
        from tests.users import NOBODY, become
        messages = []
        cache_root = tempfile.mkdtemp()
        assert audmodel.load(args["uid"], cache_root=cache_root)
        os.chmod(cache_root, 0o777)
        become(NOBODY)
        for change in (
            lambda: audmodel.publish(args["root"], "torch", {}, "3.0.0", author="me"),
            lambda: audmodel.set_alias("best", args["uid"]),
            lambda: audmodel.update_meta(args["uid"], {"a": 1}),
        ):
            try:
                change()
            except audmodel.errors.RepositoryError as error:
                messages.append(str(error))
        return messages
    """
    messages = python.run(code, uid=uid, root=str(model_folder))
    assert len(messages) == 3
    assert all("Permission denied" in message for message in messages)
    assert content(repository) == before


def test_cache_that_a_class_for_files_cannot_use(
    repository: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    class Files(audbackend.backend.FileSystem):  # type: ignore[misc]
        """Knows of no objects."""

    uid = publish(model_folder)
    audmodel.Repository.register("file-system", Files)
    (tmp_path / "file").touch()
    root = str(tmp_path / "file" / "cache")
    calls: list[Callable[[], object]] = [
        lambda: audmodel.files(uid, cache_root=root),
        lambda: audmodel.open(uid, "model.yaml", cache_root=root),
        lambda: audmodel.plan_load(uid, cache_root=root),
        lambda: audmodel.load(uid, cache_root=root),
    ]
    for call in calls:
        with pytest.raises(audmodel.errors.CacheError, match="file/cache"):
            call()


def test_folder_that_cannot_be_listed(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model_folder)
    root = Path(repository.host) / "models"
    for folder in ("lost+found", "private"):
        (root / folder).mkdir()
    scandir = os.scandir

    def scan(path: str | int) -> object:
        if os.path.basename(str(path)) in ("lost+found", *secret):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    secret: list[str] = []
    monkeypatch.setattr(os, "scandir", scan)
    assert audmodel.leftovers(repository, min_age=0) == []
    secret.append("private")
    with pytest.raises(RepositoryError, match=f"'{root / 'private'}' cannot be read"):
        audmodel.leftovers(repository, min_age=0)
    # Only at the top of the repository
    secret.clear()
    (root / "torch" / "lost+found").mkdir()
    with pytest.raises(RepositoryError, match=r"'.*torch/lost.found' cannot be read"):
        audmodel.leftovers(repository, min_age=0)
    assert audmodel.exists(uid)
