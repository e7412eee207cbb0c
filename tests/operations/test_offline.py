"""Without network: what was known last, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
import logging
import os
from pathlib import Path
import socket
from typing import Any
from typing import NoReturn

import pytest

import audmodel
from audmodel.errors import OfflineError
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import s3


@pytest.fixture
def repository(request: pytest.FixtureRequest, cache: Path) -> Any:
    """An empty repository on S3, the only one configured."""
    with s3(request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        yield repository


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(model_folder, alias="best", meta={"loss": 0.5})


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Go offline, where every socket is a failure."""

    def go() -> None:
        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise AssertionError(f"A socket was asked for: {args}")

        monkeypatch.setenv("AUDMODEL_OFFLINE", "1")
        for name in ("socket", "create_connection", "getaddrinfo"):
            monkeypatch.setattr(socket, name, refuse)

    return go


def test_what_is_known(
    uid: str,
    cache: Path,
    model_folder: Path,
    offline: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    short = uid.split("-")[0]
    root = audmodel.load("best")
    audmodel.load(short)
    header, meta, listed = audmodel.header(uid), audmodel.meta(uid), audmodel.files(uid)
    offline()
    with caplog.at_level(logging.WARNING, logger="audmodel"):
        assert audmodel.load(uid) == root
        assert caplog.records == []
        for name in ("best", short):
            assert audmodel.load(name) == root
            message = caplog.records[-1].getMessage()
            assert "AUDMODEL_OFFLINE" in message
            assert f"'{name}'" in message
            assert f"'{uid}'" in message
        assert audmodel.resolve_alias("best") == uid
        assert audmodel.header("best") == header
        assert audmodel.files("best") == listed
        caplog.clear()
        assert audmodel.meta(uid) == meta
        assert "last known" in caplog.text
    assert audmodel.load([uid, "best"], files="*.onnx") == [root, root]
    assert audmodel.name(short) == header["name"]
    assert audmodel.exists(uid)
    assert audmodel.verify("best").ok
    assert audmodel.plan_load("best").bytes == 0
    assert [model.uid for model in audmodel.cached()] == [uid]
    assert files(root) == files(model_folder)


def test_some_files(uid: str, offline: Callable[[], None]) -> None:
    root = audmodel.load("best", files="*.onnx")
    offline()
    assert audmodel.load("best", files="model.onnx") == root
    with pytest.raises(OfflineError, match=uid):
        audmodel.load(uid, files="*.yaml")
    with pytest.raises(OfflineError, match=uid):
        audmodel.load(uid)


def test_moved_alias(uid: str, model_folder: Path, offline: Callable[[], None]) -> None:
    other = publish(model_folder, version="2.0.0")
    audmodel.load([uid, other])
    assert audmodel.resolve_alias("best") == uid
    audmodel.set_alias("best", other)
    assert audmodel.resolve_alias("best") == other
    offline()
    assert audmodel.resolve_alias("best") == other


def test_short_id_that_was_never_asked_for(
    uid: str,
    model_folder: Path,
    offline: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    newest = publish(model_folder, version="10.0.0")
    publish(model_folder, version="11.0.0")
    audmodel.load([uid, newest])
    offline()
    with caplog.at_level(logging.WARNING, logger="audmodel"):
        assert audmodel.load(uid.split("-")[0]).endswith("10.0.0")
    assert "latest version in the cache" in caplog.text


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    "ask",
    [
        audmodel.load,
        audmodel.header,
        audmodel.meta,
        audmodel.files,
        audmodel.exists,
        audmodel.aliases,
        audmodel.plan_load,
        audmodel.repository,
        audmodel.versions,
        audmodel.latest_version,
        lambda uid: audmodel.load([uid]),
        lambda uid: audmodel.load(uid, files="*"),
        lambda uid: audmodel.load(uid.split("-")[0]),
        lambda uid: audmodel.load("best"),
        lambda uid: audmodel.resolve_alias("best"),
        lambda uid: audmodel.models(),
        lambda uid: audmodel.verify(uid, remote=True),
        lambda uid: audmodel.update_meta(uid, {}),
        lambda uid: audmodel.set_alias("other", uid),
    ],
)
def test_what_is_not_known(
    uid: str, offline: Callable[[], None], ask: Callable[[str], Any]
) -> None:
    offline()
    with pytest.raises(OfflineError, match="AUDMODEL_OFFLINE") as info:
        ask(uid)
    assert isinstance(info.value, audmodel.errors.RepositoryUnreachableError)


def test_publish(
    repository: audmodel.Repository, model_folder: Path, offline: Callable[[], None]
) -> None:
    offline()
    for publish_ in (audmodel.publish, audmodel.plan_publish):
        with pytest.raises(OfflineError, match=repository.name):
            publish_(str(model_folder), "torch", {}, "1.0.0")


def test_folders_are_used(
    uid: str, model_folder: Path, tmp_path: Path, offline: Callable[[], None]
) -> None:
    (tmp_path / "host" / "local").mkdir(parents=True)
    local = audmodel.Repository("local", str(tmp_path / "host"), "file-system")
    # An alias must not be hidden by one in a repository that comes before
    audmodel.config.REPOSITORIES.insert(0, local)
    offline()
    other = audmodel.publish(
        str(model_folder), "local", {}, "1.0.0", repository=local, alias="here"
    )
    assert audmodel.exists(other)
    assert files(audmodel.load(other)) == files(model_folder)
    assert files(audmodel.load("here")) == files(model_folder)
    # What a folder does not have may be elsewhere
    with pytest.raises(OfflineError):
        audmodel.load(uid)
    with pytest.raises(OfflineError):
        audmodel.exists(uid)
    audmodel.config.REPOSITORIES = [local]
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        audmodel.load(uid)


@pytest.mark.parametrize("value", ["", "0", "false", "No", " off "])
def test_not_offline(uid: str, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AUDMODEL_OFFLINE", value)
    assert audmodel.exists(uid)


@pytest.mark.parametrize(
    "content",
    [b"", b"best", b"other 3e120e8d-1.0.0", b"best a/b", b"best 3e120e8d", b"\xff"],
)
def test_damaged_memory(
    uid: str, cache: Path, offline: Callable[[], None], content: bytes
) -> None:
    audmodel.load("best")
    (cache / ".best.resolved").write_bytes(content)
    offline()
    with pytest.raises(OfflineError):
        audmodel.load("best")


@pytest.mark.timeout(30)
@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes")
def test_memory_that_blocks(uid: str, cache: Path, offline: Callable[[], None]) -> None:
    audmodel.load("best")
    memory = cache / ".best.resolved"
    memory.unlink()
    os.mkfifo(memory)
    offline()
    with pytest.raises(OfflineError):
        audmodel.load("best")


def test_memory_that_cannot_be_written(uid: str, cache: Path) -> None:
    (cache / ".best.resolved").mkdir(parents=True)
    assert audmodel.resolve_alias("best") == uid


def test_damaged_header_in_the_cache(uid: str, cache: Path, offline: Any) -> None:
    audmodel.header(uid)
    (copy,) = cache.rglob("*.header.yaml")
    copy.write_bytes(b"[")
    offline()
    with pytest.raises(OfflineError, match=os.path.basename(uid)):
        audmodel.header(uid)
