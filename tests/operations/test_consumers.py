"""What callers do with files and streams that few expect."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
from pathlib import Path
from typing import Any

import pytest

import audmodel
from audmodel.core.operations import opening


@pytest.fixture
def uid(repository: audmodel.Repository, tmp_path: Path) -> str:
    folder = tmp_path / "strange"
    folder.mkdir()
    for name in ("a[1].bin", "a[[]1].bin", "a1.bin", "[!a].bin", "*"):
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
