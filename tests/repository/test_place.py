"""Repositories are equal if they are the same place, however it is spelled."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import Plain
from tests.behaviour.backends import publish


def test_folders(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = home / "host"
    (host / "models").mkdir(parents=True)
    (tmp_path / "link").symlink_to(host)
    monkeypatch.chdir(home)
    same = [
        audmodel.Repository("models", spelling, "file-system")
        for spelling in (
            str(host),
            f"{host}/",
            f"{host}//.",
            f"{home}/other/../host",
            "~/host",
            "~/host/",
            "host",
            "./host",
            host,
            Path("host"),
            str(tmp_path / "link"),
        )
    ]
    same.append(audmodel.Repository("host/models", str(home), "file-system"))
    assert len(set(same)) == 1
    assert all(repository == same[0] for repository in same)
    for name, other in (("other", host), ("models", home), ("Models", host)):
        assert audmodel.Repository(name, str(other), "file-system") != same[0]


def test_path_as_host(cache: Path, tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "models").mkdir()
    repository = audmodel.Repository("models", tmp_path, "file-system")
    assert repository.host == str(tmp_path)
    assert repr(repository) == f"Repository('models', {str(tmp_path)!r}, 'file-system')"
    audmodel.config.REPOSITORIES = [repository]
    assert audmodel.repository(publish(model_folder)) == repository


SAME = [
    ("s3.example.org", "S3.Example.org"),
    ("s3.example.org", "https://s3.example.org"),
    ("s3.example.org", "https://s3.example.org/"),
    ("s3.example.org", "https://s3.example.org:443"),
    ("s3.example.org", "http://s3.example.org:80/"),
    ("s3.example.org", "s3.example.org:443"),
    ("s3.example.org", "s3.example.org."),
    ("localhost:9000", "http://localhost:9000"),
    ("s3.amazonaws.com", "s3.eu-central-1.amazonaws.com"),
    ("s3.amazonaws.com", "s3-eu-west-1.amazonaws.com"),
    ("s3.amazonaws.com", "https://s3.dualstack.eu-north-1.amazonaws.com"),
]
DIFFERENT = [
    ("s3.example.org", "s3.example.com"),
    ("localhost:9000", "localhost:9001"),
    ("localhost:9000", "localhost"),
    ("s3.amazonaws.com", "s3.amazonaws.com.example.org"),
    ("s3.amazonaws.com", "s3.cn-north-1.amazonaws.com.cn"),
    ("not a [host", "not a [host]"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_same_servers(first: str, second: str) -> None:
    repositories = [
        audmodel.Repository("models", host, backend)
        for host in (first, second)
        for backend in ("s3", "minio")
    ]
    assert len(set(repositories)) == 1
    assert audmodel.Repository("others", first, "s3") not in repositories


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different_servers(first: str, second: str) -> None:
    for backend in ("s3", "artifactory"):
        assert audmodel.Repository("models", first, backend) != audmodel.Repository(
            "models", second, backend
        )


def test_urls_of_artifactory() -> None:
    url = "https://example.org/artifactory"
    repository = audmodel.Repository("models", url, "artifactory")
    for same in (
        f"{url}/",
        "example.org/artifactory",
        "https://EXAMPLE.org/artifactory",
    ):
        assert audmodel.Repository("models", same, "artifactory") == repository
    for other in ("https://example.org", "https://example.org/Artifactory"):
        assert audmodel.Repository("models", other, "artifactory") != repository
    assert audmodel.Repository("models", url, "s3") != repository


def test_backends_of_users() -> None:
    audmodel.Repository.register("plain", Plain)
    audmodel.Repository.register("plain-too", Plain)
    repository = audmodel.Repository("models", "host/", "plain")
    assert repository == audmodel.Repository("models", "host/", "plain-too")
    # What host and name mean there is not known here
    assert repository != audmodel.Repository("models", "host", "plain")
    assert repository != audmodel.Repository("models", "host/", "unknown")


def test_backend_that_was_used_before(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    registry: dict[str, Any] = audmodel.Repository.backend_registry.data
    registry["file-system"] = "audmodel.core.backend.filesystem:FileSystem"
    before = hash(repository)
    publish(model_folder)  # imports its class
    assert not isinstance(registry["file-system"], str)
    assert hash(repository) == before


def test_something_else_is_no_repository(repository: audmodel.Repository) -> None:
    assert repository != str(repository)


def test_alias_that_a_repository_in_another_spelling_hides(
    cache: Path, model_folder: Path, tmp_path: Path
) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    for folder in (first, second):
        (folder / "models").mkdir(parents=True)
    audmodel.config.REPOSITORIES = [
        audmodel.Repository("models", first, "file-system"),
        audmodel.Repository("models", second, "file-system"),
    ]
    publish(model_folder, alias="best")
    spelled = audmodel.Repository("models", f"{second}/", "file-system")
    with pytest.raises(audmodel.errors.InvalidInputError, match="comes before"):
        publish(model_folder, name="other", alias="best", repository=spelled)


def test_repository_that_is_configured_twice_is_asked_once(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model_folder)
    again = audmodel.Repository("models", f"{repository.host}/", "file-system")
    asked: list[audmodel.Repository] = []
    connect = audmodel.Repository.connect

    def count(self: audmodel.Repository) -> AbstractContextManager[Any]:
        asked.append(self)
        return connect(self)

    monkeypatch.setattr(audmodel.Repository, "connect", count)
    audmodel.config.REPOSITORIES = [repository, again]
    assert audmodel.versions(uid) == ["1.0.0"]
    assert len(asked) == 1
