"""What the system allows no threads for is done by those there are."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import threading

import pytest

import audmodel
from tests.backends import seaweedfs
from tests.backends.artifactory_server import User
from tests.backends.artifactory_server import artifactory


MIB = 1024 * 1024


@pytest.fixture(params=["s3", "artifactory"])
def repositories(
    request: pytest.FixtureRequest, keys: None, login: None, tmp_path: Path
) -> Iterator[list[audmodel.Repository]]:
    """Two repositories on a server, the first of which stays empty."""
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")
    if request.param == "s3":
        server = seaweedfs.shared()
        names = [server.empty_bucket(), server.empty_bucket()]
        yield [audmodel.Repository(name, server.url, "s3") for name in names]
    else:
        with artifactory(tester=User("secret")) as stand_in:
            for name in ("first", "second"):
                stand_in.repositories[name] = {}
            yield [
                audmodel.Repository(name, stand_in.url, "artifactory")
                for name in ("first", "second")
            ]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Threads that could not be started, which are all but those of servers."""
    names: list[str] = []
    servers = set(threading.enumerate()) - {threading.main_thread()}
    start = threading.Thread.start

    def start_for_server(thread: threading.Thread) -> None:
        if threading.current_thread() not in servers:
            names.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_for_server)
    return names


def test_no_threads(
    hasty: None,
    repositories: list[audmodel.Repository],
    refused: list[str],
    tmp_path: Path,
) -> None:
    audmodel.config.REPOSITORIES = repositories
    root = tmp_path / "model"
    root.mkdir()
    content = os.urandom(20 * MIB)
    (root / "weights").write_bytes(content)
    (root / "notes").write_text("small")
    uid = audmodel.publish(
        *(str(root), "torch", {"a": 1}, "1.0.0"),
        repository=repositories[1],
        alias="best",
        num_workers=4,
    )
    assert audmodel.resolve_alias("best") == uid
    assert [model.uid for model in audmodel.models(num_workers=4)] == [uid]
    folder = Path(audmodel.load("best", num_workers=4))
    assert (folder / "weights").read_bytes() == content
    assert (folder / "notes").read_text() == "small"
    with audmodel.open(uid, "weights", num_workers=4) as file:
        assert file.read() == content
    assert len(refused) >= 5
