"""Processes without a home folder, and paths that name variables."""

from __future__ import annotations

import errno
import os
from pathlib import Path
import pwd
import resource

import pytest

import audmodel
from audmodel.core.backend import file_copies
from tests.repository.test_config import config_file as config_file


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current folder of a user that the system does not know."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("AUDMODEL_OFFLINE", "1")
    folder = tmp_path / "here"
    (folder / "~" / ".config").mkdir(parents=True)
    # Somebody else's
    (folder / "~" / ".config" / "audmodel.yaml").write_text("cache_root: /evil")
    monkeypatch.chdir(folder)
    return folder


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_without_home_the_cache_has_to_be_named(
    homeless: Path, model_folder: Path
) -> None:
    before = everything(homeless)
    for call in (
        audmodel.default_cache_root,
        audmodel.cached,
        lambda: audmodel.load("3e120e8d-1.0.0"),
        lambda: audmodel.load("3e120e8d-1.0.0", cache_root="~/cache"),
        lambda: audmodel.publish(str(model_folder), "name", {}, "1.0.0"),
    ):
        with pytest.raises(audmodel.errors.ConfigurationError, match="HOME"):
            call()
    assert everything(homeless) == before


def test_without_home_all_that_is_named_works(
    homeless: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(homeless)
    (tmp_path / "host" / "models").mkdir(parents=True)
    place = audmodel.Repository("models", str(tmp_path / "host"), "file-system")
    monkeypatch.setenv("AUDMODEL_CACHE_ROOT", str(tmp_path / "cache"))
    uid = audmodel.publish(str(model_folder), "name", {}, "1.0.0", repository=place)
    # The embedded repository cannot be there
    audmodel.config.REPOSITORIES = [audmodel.config.REPOSITORIES[0], place]
    assert os.listdir(audmodel.load(uid))
    assert audmodel.author(uid)
    assert everything(homeless) == before


def test_without_home_no_page_is_written_and_no_key_is_read(
    homeless: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(homeless)
    (tmp_path / "host" / "models").mkdir(parents=True)
    place = audmodel.Repository("models", str(tmp_path / "host"), "file-system")
    monkeypatch.setenv("AUDMODEL_CACHE_ROOT", str(tmp_path / "cache"))
    for call in (
        lambda: audmodel.build_catalog(place, "~/site"),
        lambda: audmodel.publish(
            str(model_folder), "name", {}, "1.0.0", repository=place, sign="~/key"
        ),
    ):
        with pytest.raises(audmodel.errors.ConfigurationError, match="HOME"):
            call()
    assert everything(homeless) == before


def test_home_that_is_not_writable(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "makedirs", refuse)
    audmodel.config.REPOSITORIES = audmodel.config.REPOSITORIES[:1]
    with pytest.raises(audmodel.errors.RepositoryError) as caught:
        audmodel.publish(str(model_folder), "name", {}, "1.0.0")
    assert "belongs to another user" in str(caught.value)
    assert "set HOME" in str(caught.value)


# Variables -------------------------------------------------------------------


@pytest.mark.parametrize("text", ["$SCRATCH/x", "${SCRATCH}/x"])
def test_variables_in_the_configuration(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    config_file.write_text(
        f"cache_root: {text}\n"
        f"repositories: [{{name: a, host: '{text}', backend: file-system}}]\n"
    )
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    assert audmodel.default_cache_root() == f"{tmp_path}/x"
    assert audmodel.config.REPOSITORIES[0].host == f"{tmp_path}/x"


def test_variables_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDMODEL_CACHE_ROOT", "$SCRATCH/x")
    with pytest.raises(audmodel.errors.ConfigurationError, match="SCRATCH is not set"):
        audmodel.default_cache_root()
    monkeypatch.setenv("SCRATCH", "/data")
    assert audmodel.default_cache_root() == "/data/x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cache_root: $NOT_SET/x", "NOT_SET is not set"),
        ("cache_root: /a/${NOT_SET}", "NOT_SET is not set"),
        ("cache_root: cache", "absolute path"),
        ("cache_root: ./cache", "absolute path"),
        (
            "repositories: [{name: a, host: $NOT_SET, backend: file-system}]",
            "NOT_SET is not set",
        ),
    ],
)
def test_path_that_depends_on_what_is_not_known(
    config_file: Path, content: str, message: str
) -> None:
    config_file.write_text(content)
    with pytest.raises(audmodel.errors.ConfigurationError, match=message) as caught:
        audmodel.default_cache_root()
    assert str(config_file) in str(caught.value)


# File systems that say no ----------------------------------------------------


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EDQUOT, "Make room"),
        (errno.EPERM, "belongs to another user"),
        (errno.EACCES, "belongs to another user"),
        (errno.EROFS, "read-only"),
        (errno.EFBIG, "'ulimit -f'"),
        (errno.EMFILE, "'ulimit -n'"),
        (errno.ESPIPE, "FUSE"),
        (errno.EINVAL, "FUSE"),
        (errno.EOPNOTSUPP, "FUSE"),
        (errno.EIO, "has a fault"),
        (errno.ENOTCONN, "has a fault"),
    ],
)
def test_advice_follows_what_the_file_system_says(
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    advice: str,
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    uid = audmodel.publish(str(model_folder), "name", {}, "1.0.0")
    with monkeypatch.context() as patch:
        for name in ("pwrite", "pwritev"):
            patch.setattr(os, name, fail)
        with pytest.raises(audmodel.errors.CacheError, match=advice) as in_cache:
            audmodel.load(uid)
    assert ("Make room" in str(in_cache.value)) == (advice == "Make room")
    with monkeypatch.context() as patch:
        patch.setattr(file_copies, "write", fail)
        with pytest.raises(audmodel.errors.RepositoryError, match=advice):
            audmodel.publish(str(model_folder), "name", {}, "2.0.0")
    assert audmodel.versions(uid.partition("-")[0]) == ["1.0.0"]
    assert os.listdir(audmodel.load(uid))


def test_file_that_is_larger_than_allowed(
    repository: audmodel.Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "a").write_bytes(os.urandom(300_000))
    uid = audmodel.publish(str(folder), "name", {}, "1.0.0")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(audmodel.errors.CacheError, match="ulimit -f"):
            audmodel.load(uid)
        with pytest.raises(audmodel.errors.RepositoryError, match="ulimit -f"):
            audmodel.publish(str(folder), "name", {}, "2.0.0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(audmodel.load(uid)) == ["a"]


def test_file_that_cannot_be_closed_is_not_published(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close, failed = os.close, []

    def fail(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        close(fd)
        if "header.yaml~" in path:
            failed.append(path)
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        with pytest.raises(audmodel.errors.RepositoryError, match="has a fault"):
            audmodel.publish(str(model_folder), "name", {}, "1.0.0")
    assert failed
    uid = audmodel.uid("name", {}, "1.0.0")
    assert not audmodel.exists(uid)
    assert audmodel.publish(str(model_folder), "name", {}, "1.0.0") == uid
    assert os.listdir(audmodel.load(uid))
