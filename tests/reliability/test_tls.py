"""Nobody who cannot prove who they are gets to know anything, whatever is set."""

from __future__ import annotations

from collections.abc import Callable
import datetime
from pathlib import Path
import ssl
import time

import pytest
import trustme

import audmodel
from audmodel import errors
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.conftest import usual_authorities as usual_authorities
from tests.backends.test_s3_client import TlsServer
from tests.backends.test_s3_client import tls


# Of each family of faults
pytestmark = pytest.mark.sample(1)


# What may be set, apart from whom to trust
OPTIONS = {
    "nothing": "",
    "timeouts": "connect_timeout = 3\nread_timeout = 3\n",
    "region": "region = eu-central-1\n",
    "addressing": "addressing_style = path\n",
    "secure": "secure = True\n",
    "all": (
        "secure = true\nconnect_timeout = 3\nread_timeout = 3\n"
        "region = eu-central-1\naddressing_style = path\n"
    ),
}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MINIO_ACCESS_KEY", "ARTIFACTORY_USERNAME"):
        monkeypatch.setenv(name, "user")
    for name in ("MINIO_SECRET_KEY", "ARTIFACTORY_API_KEY"):
        monkeypatch.setenv(name, "secret")


def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A server that is its own authority."""
    authority = trustme.CA()
    path = tmp_path / "self.pem"
    authority.private_key_pem.write_to_path(str(path))
    authority.cert_pem.write_to_path(str(path), append=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(str(path))
    return context


LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
CASES: dict[str, Callable[[trustme.CA, Path], ssl.SSLContext]] = {
    "wrong host": lambda ca, _: tls(ca, "example.com"),
    "expired": lambda ca, _: tls(ca, "127.0.0.1", not_after=LONG_AGO),
    "unknown authority": lambda _, __: tls(trustme.CA(), "127.0.0.1"),
    "self-signed": lambda _, path: self_signed(path),
}


def use(repository: audmodel.Repository, folder: Path, model_folder: Path) -> None:
    """Everything that speaks to a repository fails, and says why."""
    audmodel.config.REPOSITORIES = [repository]
    audmodel.config.CACHE_ROOT = str(folder / "cache")
    calls: list[Callable[[], object]] = [
        lambda: audmodel.load("deadbeef-1.0.0"),
        lambda: audmodel.exists("deadbeef-1.0.0"),
        lambda: audmodel.publish(str(model_folder), "torch", {}, "1.0.0"),
        lambda: audmodel.set_alias("best", "deadbeef-1.0.0"),
        lambda: audmodel.check_repository(repository),
        lambda: audmodel.leftovers(repository),
    ]
    for call in calls:
        start = time.monotonic()
        with pytest.raises(errors.RepositoryError, match="TLS connection failed"):
            call()
        # It does not get better by waiting
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("option", OPTIONS)
def test_s3(
    home: Path,
    hasty: None,
    secrets: None,
    authority: trustme.CA,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model_folder: Path,
    case: str,
    option: str,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    with TlsServer(CASES[case](authority, tmp_path)) as server:
        config = home / ".config" / "audbackend" / "minio.cfg"
        config.parent.mkdir(parents=True)
        host = f"127.0.0.1:{server.port}"
        config.write_text(f"[{host}]\n{OPTIONS[option]}", encoding="utf-8")
        use(audmodel.Repository("models", host, "s3"), tmp_path, model_folder)
        assert server.requests == 0


@pytest.mark.parametrize(
    ("case", "advice"),
    [
        ("wrong host", "Check the host"),
        ("expired", "Check the clock of this machine"),
        ("unknown authority", "let REQUESTS_CA_BUNDLE name a file"),
        ("self-signed", "let REQUESTS_CA_BUNDLE name a file"),
    ],
)
@pytest.mark.parametrize("backend", ["s3", "artifactory"])
def test_what_to_do(
    hasty: None,
    authority: trustme.CA,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    case: str,
    advice: str,
    backend: str,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    with TlsServer(CASES[case](authority, tmp_path)) as server:
        host = f"127.0.0.1:{server.port}"
        repository = audmodel.Repository("models", host, backend)
        (failed,) = audmodel.doctor(repository).failed
    assert failed.name == "reachable"
    assert "the TLS connection failed: the certificate" in failed.seen
    assert advice in failed.seen
    assert "HTTPSConnectionPool" not in failed.seen


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_artifactory(
    hasty: None,
    secrets: None,
    authority: trustme.CA,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model_folder: Path,
    case: str,
    name: str,
) -> None:
    monkeypatch.setenv(name, bundle)
    with TlsServer(CASES[case](authority, tmp_path)) as server:
        for host in (f"127.0.0.1:{server.port}", f"https://127.0.0.1:{server.port}/x"):
            repository = audmodel.Repository("models", host, "artifactory")
            use(repository, tmp_path, model_folder)
        assert server.requests == 0


@pytest.mark.parametrize(
    "name", ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
)
@pytest.mark.parametrize("backend", ["s3", "artifactory"])
def test_an_empty_variable_switches_nothing_off(
    hasty: None,
    secrets: None,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model_folder: Path,
    name: str,
    backend: str,
) -> None:
    monkeypatch.setenv(name, "")
    with TlsServer(tls(authority, "127.0.0.1")) as server:
        host = f"127.0.0.1:{server.port}"
        use(audmodel.Repository("models", host, backend), tmp_path, model_folder)
        assert server.requests == 0


def test_who_is_trusted_is_asked(
    hasty: None,
    secrets: None,
    authority: trustme.CA,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The refusals above are not about something else."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    with TlsServer(tls(authority, "127.0.0.1")) as server:
        for backend in ("s3", "artifactory"):
            before = server.requests
            repository = audmodel.Repository(
                "models", f"127.0.0.1:{server.port}", backend
            )
            audmodel.config.REPOSITORIES = [repository]
            try:
                audmodel.exists("deadbeef-1.0.0")
            except errors.AudmodelError as error:
                assert "TLS connection failed" not in str(error)  # noqa: PT017
            assert server.requests > before


def test_no_code_switches_verification_off() -> None:
    package = Path(audmodel.__file__).parent
    words = [
        "verify=False",
        "verify = False",
        "CERT_NONE",
        "check_hostname",
        "assert_hostname",
        "_create_unverified_context",
        "disable_warnings",
    ]
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], path
