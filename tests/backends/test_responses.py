"""What is made of the answers of real storages.

The table that these tests read is the one in the documentation.

"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import csv
from dataclasses import dataclass
import json
from pathlib import Path
import random
import socket
from typing import Any

import pytest

import audmodel
from audmodel import errors
from audmodel.core.backend.artifactory.backend import Artifactory
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.http import credentials
from audmodel.core.backend.http import transfer
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from audmodel.core.backend.s3 import parts as s3_parts
from audmodel.core.backend.s3.backend import S3
from tests.backends import artifactory_server
from tests.backends import proxy as faults
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.conftest import ROOT


REQUEST_ID = "4442587FB7D0A2F9"


@dataclass(frozen=True)
class Row:
    what: str
    storage: str
    request: str
    status: str
    code: str
    message: str
    outcome: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}-{self.storage}-{self.status}-{self.code}"

    @property
    def is_artifactory(self) -> bool:
        return self.storage == "Artifactory"

    @property
    def response(self) -> faults.Fault:
        """The answer as these storages give it."""
        if self.is_artifactory:
            problem = {"status": int(self.status), "message": self.message}
            return faults.status(
                int(self.status),
                json.dumps({"errors": [problem]}).encode(),
                Content_Type="application/json",
                X_Request_Id=REQUEST_ID,
            )
        if self.storage.startswith("nginx"):
            title = f"<html><head><title>{self.message}</title></head></html>"
            return faults.status(
                int(self.status), title.encode(), Content_Type="text/html"
            )
        region = "<Region>eu-north-1</Region>" if self.what == "wrong region" else ""
        return faults.status(
            int(self.status),
            f"<Error><Code>{self.code}</Code><Message>{self.message}</Message>"
            f"{region}</Error>".encode(),
            Content_Type="application/xml",
            X_Amz_Request_Id=REQUEST_ID,
        )


def rows() -> list[Row]:
    with (ROOT / "docs" / "responses.csv").open(encoding="utf-8", newline="") as file:
        return [Row(*row) for row in list(csv.reader(file))[1:]]


REQUESTS: dict[str, Callable[[Request], bool]] = {
    "read": lambda request: request.method == "GET",
    "store": lambda request: request.method == "PUT",
    "store a part": lambda request: "partNumber" in request.path,
    "complete": lambda request: request.method == "POST" and "Id=" in request.path,
    "replace": lambda request: request.method == "PUT",
}


def attempt(backend: ObjectBackend, request: str, etag: str) -> object:
    """Do what sends such a request."""
    if request == "read":
        return backend.read_object("/a", 100)
    if request == "replace":
        assert backend.replace_object("/a", b"new", etag)
    elif request == "store":
        backend.write_object("/a", [b"new"])
    else:
        backend.write_object("/a", [bytes(s3_parts.PART_SIZE)])
    return True


def check(backend: ObjectBackend, proxy: Proxy, row: Row) -> None:
    """Compare what happens with what the table says."""
    assert backend.create_object("/a", b"old")
    stored = backend.read_object("/a", 100)
    assert stored is not None
    count = 2 if row.outcome == "repeated" else 1000
    seen: list[str] = []

    def is_meant(request: Request) -> bool:
        if REQUESTS[row.request](request):
            seen.append(request.method)
            return True
        return False

    proxy.fault = faults.first(count, row.response, when=is_meant)
    if row.outcome == "absent":
        assert attempt(backend, row.request, stored.etag) is None
    elif row.outcome == "repeated":
        assert attempt(backend, row.request, stored.etag)
        assert len(seen) == 3
    else:
        with pytest.raises(errors.RepositoryError) as info:
            attempt(backend, row.request, stored.etag)
        public = [kind.__name__ for kind in type(info.value).__mro__]
        assert next(name for name in public if name in errors.__all__) == row.outcome
        message = str(info.value)
        assert row.reason in message
        # A web page says no more than the status
        if not row.storage.startswith("nginx"):
            assert row.message.rstrip(".") in message or "Access Denied" in row.message
            assert REQUEST_ID in message
        # What is permanent is not tried again, but for a region and a condition
        least = {"wrong region": 2, "condition that holds is refused": 4}
        assert len(seen) <= least.get(row.what, 1)


@pytest.fixture(autouse=True)
def time_to_store_parts(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_endpoint, "READ_TIMEOUT", 20.0)
    monkeypatch.setattr(transfer, "BUDGET", 20.0)


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    # Keys of one letter would be found in all that servers say
    monkeypatch.setattr(credentials._redaction, "secrets", set())


@pytest.mark.sample(6)
@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("row", [r for r in rows() if not r.is_artifactory], ids=str)
def test_s3(proxy: Proxy, bucket: str, row: Row) -> None:
    with S3(proxy.url, bucket) as backend:
        check(backend, proxy, row)


# What is in front of the server says the same of both
@pytest.mark.parametrize("row", [r for r in rows() if r.is_artifactory], ids=str)
def test_artifactory(row: Row) -> None:
    user = artifactory_server.User("secret")
    with (
        artifactory_server.artifactory(tester=user) as server,
        Proxy(server.host) as proxy,
        Artifactory(
            f"{proxy.url}/artifactory", "models", authentication=("tester", "secret")
        ) as backend,
    ):
        check(backend, proxy, row)


def test_every_situation_is_in_the_table() -> None:
    found = {row.what for row in rows()}
    assert found >= {
        "missing",
        "forbidden",
        "archived",
        "full",
        "too large",
        "throttled",
        "credentials expired",
        "credentials rotated",
        "wrong region",
        "encryption is demanded",
        "object lock",
        "damaged upload",
        "aborted upload",
        "condition that holds is refused",
    }


# What was not even answered ----------------------------------------------------


def connect(kind: str, url: str) -> ObjectBackend:
    """Backend for a server at a URL."""
    if kind == "s3":
        return S3(url, "models", authentication=("a", "b"))
    return Artifactory(f"{url}/artifactory", "models", authentication=("a", "b"))


@pytest.fixture(params=["s3", "artifactory"])
def kind(request: pytest.FixtureRequest) -> str:
    """Kind of storage."""
    name: str = request.param
    return name


def message(backend: ObjectBackend) -> str:
    """What the error says if an object is read."""
    with pytest.raises(errors.AudmodelError) as info:
        backend.read_object("/a", 10)
    return str(info.value)


def test_a_server_that_does_not_encrypt(kind: str, proxy: Proxy) -> None:
    assert "write http:// in front" in message(connect(kind, f"https://{proxy.host}"))
    if kind == "s3":
        assert "write http:// in front" in message(connect(kind, proxy.host))


def test_a_host_that_does_not_exist(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    text = message(connect(kind, "http://nowhere.invalid"))
    assert "the host of 'http://nowhere.invalid" in text
    assert "is not known" in text


def test_a_port_at_which_nothing_listens(kind: str, free_port: int) -> None:
    text = message(connect(kind, f"http://127.0.0.1:{free_port}"))
    assert "nothing listens there" in text
    assert "Check the port" in text


def test_a_proxy_that_is_dead(
    kind: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hiddenhidden"
    url = f"http://user:{secret}@127.0.0.1:{free_port}"
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.delenv("no_proxy", raising=False)
    text = message(connect(kind, "http://storage.example.com"))
    assert "the proxy cannot be reached. Check HTTPS_PROXY" in text
    assert secret not in text


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_do_not_exist(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (kind, name) == ("artifactory", "AWS_CA_BUNDLE"):
        name = "CURL_CA_BUNDLE"
    path = str(tmp_path / "missing.pem")
    monkeypatch.setenv(name, path)
    with pytest.raises(errors.ConfigurationError) as info:
        connect(kind, "https://127.0.0.1:1").read_object("/a", 10)
    assert name in str(info.value)
    assert path in str(info.value)


def test_certificates_of_the_aws_tools_that_do_not_exist(home: Path) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text("[default]\nca_bundle = /missing.pem\n")
    with pytest.raises(errors.ConfigurationError, match=r"ca_bundle.*/missing\.pem"):
        connect("s3", "https://127.0.0.1:1").read_object("/a", 10)


def test_no_credentials_at_all(kind: str, proxy: Proxy, home: Path) -> None:
    proxy.fault = faults.s3_error(403, "AccessDenied")
    backend: ObjectBackend
    places: tuple[str, ...]
    if kind == "s3":
        backend = S3(proxy.url, "models")
        places = ("MINIO_ACCESS_KEY", "minio.cfg", "AWS_PROFILE", proxy.url)
    else:
        backend = Artifactory(f"{proxy.url}/artifactory", "models")
        places = ("ARTIFACTORY_API_KEY", ".artifactory_python.cfg")
    text = message(backend)
    assert "no credentials" in text
    for place in places:
        assert place in text


def test_a_folder_is_no_bucket() -> None:
    with pytest.raises(errors.ConfigurationError, match="a whole bucket") as info:
        S3("localhost", "team/sub")
    assert "'team'" in str(info.value)


def test_what_a_server_says_is_shortened_and_redacted(
    keys: None, proxy: Proxy, bucket: str
) -> None:
    key = "averyveryverysecretkey"
    backend = S3(proxy.url, bucket, authentication=("access", key))
    said = f"X-Amz-Signature=abcdef and {key}\n token: hush, {'x' * 1000}"
    body = f"<Error><Code>Strange</Code><Message>{said}</Message></Error>"
    proxy.fault = faults.status(400, body.encode(), Content_Type="application/xml")
    text = message(backend)
    assert "Strange" in text
    assert len(text) < 600
    for secret in (key, "abcdef", "hush", "\n"):
        assert secret not in text


def test_head_does_not_say_why(keys: None, proxy: Proxy, bucket: str) -> None:
    """Without permission to list, AWS says that what is missing is forbidden."""
    body = (
        b"<Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::1:user/u is "
        b"not authorized to perform: s3:ListBucket on resource: x</Message></Error>"
    )
    proxy.fault = faults.status(403, body, Content_Type="application/xml")
    with S3(proxy.url, bucket) as backend:
        assert not backend._exists("/a")
        assert backend._store.head("/a") is None
        with backend.open_object("/a") as reader:
            assert reader is None
        proxy.fault = faults.s3_error(403, "AccessDenied")
        with pytest.raises(errors.RepositoryError, match="access is denied"):
            backend._store.head("/a")


# What may not be listed --------------------------------------------------------


def unlisted(request: Request, forward: Forward) -> Response:
    """As a bucket answers to credentials without ``s3:ListBucket``."""
    response = forward()
    lists = request.method == "GET" and "list-type" in request.path
    if lists or (response.status == 404 and request.method in ("GET", "HEAD")):
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message>"
        headers = [("Content-Type", "application/xml")]
        has_body = request.method == "GET"
        return Response(403, headers, body + b"</Error>" if has_body else b"")
    return response


@pytest.fixture
def unlisted_bucket(proxy: Proxy, bucket: str, cache: Path) -> audmodel.Repository:
    """Repository whose objects may not be listed, the only one configured."""
    proxy.fault = unlisted
    repository = audmodel.Repository(bucket, proxy.url, "s3")
    audmodel.config.REPOSITORIES = [repository]
    return repository


@pytest.mark.usefixtures("keys", "unlisted_bucket")
class TestUnlisted:
    """Writes and lookups where a missing object is forbidden."""

    @pytest.mark.parametrize("size", [100, 9_000_000])
    def test_publish(
        self,
        model_folder: Path,
        caplog: pytest.LogCaptureFixture,
        size: int,
    ) -> None:
        (model_folder / "weights").write_bytes(random.Random(0).randbytes(size))
        uid = publish(model_folder, alias="best", meta={"a": 1})
        assert "Whether another model has the short ID" in caplog.text
        assert not [r for r in caplog.records if "Could not remove" in r.getMessage()]
        assert files(audmodel.load("best")) == files(model_folder)
        assert audmodel.meta(uid) == {"a": 1}
        with pytest.raises(errors.ModelExistsError):
            publish(model_folder)
        audmodel.set_alias("other", uid)
        assert audmodel.resolve_alias("other") == uid
        assert audmodel.update_meta(uid, {"b": 2}) == {"a": 1, "b": 2}

    def test_publisher_that_was_faster(
        self, model_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Conditional writes decide."""
        create_object = S3.create_object

        def late(backend: S3, path: str, data: bytes) -> bool:
            monkeypatch.setattr(S3, "create_object", create_object)
            publish(model_folder)
            return create_object(backend, path, data)

        monkeypatch.setattr(S3, "create_object", late)
        with pytest.raises(errors.ModelExistsError):
            publish(model_folder)

    def test_missing_model(self) -> None:
        with pytest.raises(errors.RepositoryError) as info:
            audmodel.load("deadbeef-1.0.0")
        assert "Either the object is absent, or you may not read it" in str(info.value)
        assert "with the permission s3:ListBucket" in str(info.value)

    def test_versions(self) -> None:
        with pytest.raises(errors.RepositoryError, match="s3:ListBucket is needed"):
            audmodel.versions("deadbeef")

    @pytest.mark.parametrize("position", [0, 1])
    def test_several_repositories(
        self,
        unlisted_bucket: audmodel.Repository,
        model_folder: Path,
        tmp_path: Path,
        position: int,
    ) -> None:
        (tmp_path / "other" / "models").mkdir(parents=True)
        other = audmodel.Repository("models", str(tmp_path / "other"), "file-system")
        audmodel.config.REPOSITORIES.insert(position, other)
        known = contextlib.nullcontext()
        unknown = pytest.warns(UserWarning, match="is not known")
        with unknown if position else known:
            uid = publish(model_folder, repository=other)
        assert files(audmodel.load(uid)) == files(model_folder)
        with unknown if position else known:
            audmodel.set_alias("best", uid)
        assert audmodel.resolve_alias("best") == uid
        # Those that have none say nothing about the one that does not tell
        with pytest.raises(errors.RepositoryError, match="Either the object is absent"):
            audmodel.load("deadbeef-1.0.0")
