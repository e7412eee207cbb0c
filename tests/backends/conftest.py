"""What the tests of backends share."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from pathlib import Path
import socket

import pytest

import audmodel
from audmodel.core.backend.artifactory import backend as artifactory
from audmodel.core.backend.artifactory import server as artifactory_requests
from audmodel.core.backend.http import transfer
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from tests.backends import seaweedfs
from tests.backends.forget import forget_servers
from tests.backends.proxy import Proxy


@pytest.fixture
def weed() -> seaweedfs.SeaweedFS:
    """A real S3 server."""
    return seaweedfs.shared()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that may do everything on the S3 server."""
    monkeypatch.setenv("MINIO_ACCESS_KEY", seaweedfs.ACCESS_KEY)
    monkeypatch.setenv("MINIO_SECRET_KEY", seaweedfs.SECRET_KEY)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that may do everything on what stands for Artifactory."""
    monkeypatch.setenv("ARTIFACTORY_USERNAME", "tester")
    monkeypatch.setenv("ARTIFACTORY_API_KEY", "secret")


@pytest.fixture
def bucket(weed: seaweedfs.SeaweedFS) -> str:
    """An empty bucket."""
    return weed.empty_bucket()


@pytest.fixture
def proxy(weed: seaweedfs.SeaweedFS) -> Iterator[Proxy]:
    """Proxy in front of the S3 server."""
    with Proxy(weed.host) as proxy:
        yield proxy


@pytest.fixture
def counted(
    keys: None, proxy: Proxy, weed: seaweedfs.SeaweedFS, tmp_path: Path
) -> Proxy:
    """Proxy in front of the only repository that is configured."""
    audmodel.config.REPOSITORIES = [audmodel.Repository(weed.bucket(), proxy.url, "s3")]
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")
    return proxy


@pytest.fixture(autouse=True)
def usual_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust whom the libraries trust, not whom this machine trusts."""
    for name in ("SSL_CERT_DIR", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Know nothing of servers that other tests met."""
    yield
    forget_servers()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have little patience, so that tests do not wait."""
    monkeypatch.setattr(transfer, "BUDGET", 1.0)
    monkeypatch.setattr(transfer, "CONNECT_BUDGET", 1.0)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(transfer, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(s3_endpoint, "READ_TIMEOUT", 0.8)
    monkeypatch.setattr(artifactory_requests, "READ_TIMEOUT", 0.8)
    monkeypatch.setattr(artifactory, "DEPLOY_TIMEOUT", 3.0)


@pytest.fixture
def patient(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have little patience with an answer, and much with trouble that passes."""
    monkeypatch.setattr(transfer, "BUDGET", 20.0)
    monkeypatch.setattr(transfer, "CONNECT_BUDGET", 20.0)
    monkeypatch.setattr(s3_endpoint, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(artifactory_requests, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(artifactory, "DEPLOY_TIMEOUT", 0.3)


@pytest.fixture
def free_port() -> int:
    """Port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def full_port() -> Iterator[int]:
    """Port whose owner takes no more connections."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
