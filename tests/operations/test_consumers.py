"""What callers do with files and streams that few expect."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
from pathlib import Path
from typing import Any

import pytest

import audmodel
from audmodel.core.operations import opening


NAMES = ["a[1].bin", "a[[]1].bin", "a1.bin", "[!a].bin", "*"]


@pytest.fixture
def uid(repository: audmodel.Repository, tmp_path: Path) -> str:
    folder = tmp_path / "strange"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(name)
    return audmodel.publish(str(folder), "name", {}, "1.0.0")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["a[1].bin", "a[[]1].bin", "[!a].bin", "*"])
def test_a_file_whose_name_looks_like_a_pattern_is_loaded_and_opened(
    uid: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of large files in archives of earlier releases
    monkeypatch.setattr(opening, "open_archived", lambda *_: None)
    with audmodel.open(uid, name) as file:
        assert file.read().decode() == name


@pytest.mark.parametrize("where", ["nowhere", "whole", "partial"])
def test_a_stream_is_closed_wherever_its_files_are(uid: str, where: str) -> None:
    if where != "nowhere":
        audmodel.load(uid, files="a1.bin" if where == "partial" else None)
    with contextlib.closing(audmodel.stream(uid, files="a1.bin")) as stream:
        assert Path(next(stream)).read_text() == "a1.bin"
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize(
    ("where", "pattern"), [("whole", None), ("whole", "?*"), ("partial", "?*")]
)
def test_a_stream_fetches_what_is_removed_meanwhile(
    uid: str, where: str, pattern: str | None
) -> None:
    audmodel.load(uid, files="?*" if where == "partial" else None)
    names = []
    for path in audmodel.stream(uid, files=pattern):
        names.append(Path(path).name)
        assert Path(path).read_text() == names[-1]
        if len(names) == 2:
            audmodel.remove_cached(uid)
    assert names == sorted(NAMES)
    root = audmodel.load(uid, files=pattern)
    assert sorted(path.name for path in Path(root).iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("where", ["nowhere", "some", "partial", "whole"])
def test_a_stream_fetches_files_that_are_deleted_meanwhile(
    uid: str, where: str
) -> None:
    """Also those that were there when it began to fetch another one."""
    patterns = {"some": NAMES[1:], "partial": "?*", "whole": None}
    if where in patterns:
        audmodel.load(uid, files=patterns[where])
    names = []
    for path in audmodel.stream(uid):
        names.append(Path(path).name)
        assert Path(path).read_text() == names[-1]
        for other in Path(path).parent.iterdir():
            if other.name not in names:
                other.unlink()
    assert names == sorted(NAMES)


def test_a_stream_that_has_waited_fetches_what_is_deleted(uid: str) -> None:
    """A stream that finds the files when it gets the lock looks again as well."""
    waiting = audmodel.stream(uid)
    audmodel.load(uid)
    next(waiting)
    for path in Path(audmodel.load(uid)).iterdir():
        path.unlink()
    assert all(Path(path).read_text() == Path(path).name for path in waiting)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("mine"),
        OSError(28, "mine"),
        audmodel.errors.ArchiveError("mine"),
        StopAsyncIteration("mine"),
        KeyboardInterrupt("mine"),
    ],
    ids=repr,
)
def test_what_is_thrown_into_a_stream_is_raised(
    uid: str, error: BaseException, workers: int
) -> None:
    paths: Any = audmodel.stream(uid, num_workers=workers)
    next(paths)
    with pytest.raises(type(error), match="mine") as caught:
        paths.throw(error)
    assert caught.value is error
    assert list(paths) == []
    # The lock is free
    assert len(list(audmodel.stream(uid, timeout=0))) == 5


def test_a_stream_of_a_relative_host_survives_another_folder(
    uid: str, repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Path(repository.host)
    monkeypatch.chdir(host.parent)
    place = audmodel.Repository(repository.name, host.name, "file-system")
    audmodel.config.REPOSITORIES = [place]
    paths = audmodel.stream(uid, num_workers=2)
    monkeypatch.chdir("/")
    assert len(list(paths)) == 5
    assert place.host == host.name


CALLS: dict[str, Callable[..., object]] = {
    "load": audmodel.load,
    "load some": lambda uid, **kw: audmodel.load(uid, files="a1.bin", **kw),
    "load several": lambda uid, **kw: audmodel.load([uid, uid], **kw),
    "open": lambda uid, **kw: audmodel.open(uid, "a1.bin", **kw).close(),
    "stream": lambda uid, **kw: list(audmodel.stream(uid, **kw)),
    "verify": lambda uid, **kw: audmodel.verify(uid, repair=True, **kw),
}


@pytest.mark.parametrize("name", CALLS)
def test_timeout_none_is_forever(uid: str, name: str) -> None:
    if name == "verify":
        audmodel.load(uid)
    CALLS[name](uid, timeout=None)


@pytest.mark.parametrize("timeout", ["1", True, [], float("nan")], ids=repr)
@pytest.mark.parametrize("name", CALLS)
def test_timeout_that_is_no_number(uid: str, name: str, timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="'timeout' has to be a number"):
        CALLS[name](uid, timeout=timeout)
