"""No secret appears anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from collections.abc import Mapping
import copy
import html
import io
import logging
from pathlib import Path
import pickle
import time
import traceback
import types
from typing import Any
import warnings

import pytest

import audmodel
from audmodel import errors
from audmodel.core.backend.artifactory.backend import Artifactory
from audmodel.core.backend.host import without_login
from audmodel.core.backend.http import credentials
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from audmodel.core.backend.s3.backend import S3
from tests.backends import artifactory_server
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.proxy import Fault
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.backends.seaweedfs import CANARY


@pytest.fixture
def everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """What is logged at any level, warned of and printed."""
    # Those of other tests may be part of any word
    monkeypatch.setattr(credentials._redaction, "secrets", set())
    texts: list[str] = []
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    root.setLevel(level)
    root.removeHandler(handler)
    out, err = capsys.readouterr()
    texts += [stream.getvalue(), out, err, *(str(w.message) for w in caught)]
    # Something was looked at
    assert any("HTTP" in text or "amz" in text for text in texts), texts
    check(*texts)


def check(*texts: str) -> None:
    canaries = [CANARY, CANARY.lower(), CANARY.encode().hex()]
    for shift in range(3):
        # The ends depend on what stands beside it
        encoded = base64.b64encode(b"x" * shift + CANARY.encode()).decode()
        canaries.append(encoded[4:-4])
    for text in texts:
        for canary in canaries:
            assert canary not in text


def describe(error: BaseException) -> str:
    """What a traceback shows, and what tools that collect errors find in it.

    These are the variables of all frames, and attributes of errors of any depth.
    """
    texts = ["".join(traceback.format_exception(error))]
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        current = left.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        texts += [repr(current), str(current), *contents(current)]
        for frame, _ in traceback.walk_tb(current.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                texts += [repr(value) for value in frame.f_locals.values()]
        left += [current.__cause__, current.__context__]
    return "\n".join(texts)


def contents(value: Any, depth: int = 6) -> Iterator[str]:
    """Everything that an object refers to."""
    yield repr(value)
    if depth and not isinstance(value, type | types.ModuleType):
        if isinstance(value, Mapping):
            inner = [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            inner = list(value)
        else:
            inner = [*getattr(value, "__dict__", {}).values()]
            inner += list(getattr(value, "args", ()))
        for one in inner:
            yield from contents(one, depth - 1)


def canonical_request(request: Request, _: Forward) -> Response:
    """A server that quotes what it would have signed."""
    quoted = "".join(f"{name}:{value}" for name, value in request.headers.items())
    body = (
        "<Error><Code>SignatureDoesNotMatch</Code><Message>No</Message>"
        f"<CanonicalRequest>{html.escape(quoted)}</CanonicalRequest></Error>"
    ).encode()
    headers = [("Content-Length", str(len(body))), ("Content-Type", "application/xml")]
    return Response(403, headers, body)


FAULTS = [
    None,
    faults.s3_error(403, "AccessDenied"),
    faults.s3_error(403, "InvalidAccessKeyId"),
    faults.s3_error(500, "InternalError"),
    faults.break_before,
    faults.change(cut_after=3),
    faults.change(stall_after=0),
    faults.status(200, b"<html>"),
    canonical_request,
    faults.status(302, b"", Location="http://127.0.0.1:1/"),
]


@pytest.mark.sample(2)
@pytest.mark.parametrize("fault", FAULTS)
def test_s3(
    hasty: None,
    bucket: str,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    everything: list[str],
    fault: faults.Fault | None,
    tmp_path: Path,
    model_folder: Path,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.SECRET_KEY)
    if fault is not None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", f"token{CANARY}")
    repository = audmodel.Repository(bucket, proxy.url, "s3")
    audmodel.config.REPOSITORIES = [repository]
    proxy.fault = fault
    everything.append(repr(repository))
    try:
        with S3(proxy.url, bucket) as backend:
            everything += [repr(backend), repr(vars(backend)), repr(backend._store)]
            everything.append(repr(vars(backend._store)))
            backend.read_object("/a", 10)
        uid = audmodel.publish(str(model_folder), "torch", {}, "1.0.0", alias="a")
        audmodel.load(uid, cache_root=str(tmp_path / "cache"))
    except errors.AudmodelError as error:
        everything.append(describe(error))
        everything.append(str(pickle.loads(pickle.dumps(error))))
    else:
        assert fault is None
    everything.append(repr(audmodel.doctor()))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes()


@pytest.mark.sample(3)
@pytest.mark.parametrize("username", ["tester", ""])
@pytest.mark.parametrize(
    "fault",
    [
        None,
        faults.status(401),
        faults.status(500),
        faults.break_before,
        faults.change(cut_after=3),
        faults.change(stall_after=0),
        faults.status(302, Location=f"http://nowhere:1/?X-Amz-Signature={CANARY}"),
    ],
)
def test_artifactory(
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    everything: list[str],
    username: str,
    fault: Fault | None,
) -> None:
    secret = f"secret{CANARY}"
    monkeypatch.setenv("ARTIFACTORY_USERNAME", username)
    monkeypatch.setenv("ARTIFACTORY_API_KEY", secret)
    user = artifactory_server.User(secret)
    with (
        artifactory_server.artifactory(tester=user) as server,
        Proxy(server.host) as proxy,
    ):
        server.tokens[secret] = user
        proxy.fault = fault
        try:
            with Artifactory(f"{proxy.url}/artifactory", "models") as backend:
                everything += [repr(backend), repr(vars(backend)), repr(backend._store)]
                backend.write_object("/a", [b"x"])
                backend.list_objects("/")
        except errors.AudmodelError as error:
            everything.append(describe(error))
        else:
            assert fault is None


def test_line_break_behind_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in files from which variables of containers are read
    monkeypatch.setenv("ARTIFACTORY_API_KEY", "secret\n")
    with artifactory_server.artifactory() as server:
        server.tokens["secret"] = artifactory_server.User("secret")
        with Artifactory(server.url, "models") as backend:
            backend.write_object("/a", [b"x"])
    monkeypatch.setenv("MINIO_ACCESS_KEY", f"{seaweedfs.ACCESS_KEY}\n")
    monkeypatch.setenv("MINIO_SECRET_KEY", f" {seaweedfs.SECRET_KEY}\r\n")
    keys = s3_endpoint.endpoint("localhost", "bucket").keys
    assert keys == (seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY)


@pytest.mark.parametrize("character", ["\n", "\x7f", "\N{EURO SIGN}"])
@pytest.mark.parametrize(
    ("backend", "names"),
    [
        ("artifactory", ["ARTIFACTORY_API_KEY"]),
        ("s3", ["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"]),
        ("s3", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]),
    ],
)
def test_what_cannot_be_sent(
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    names: list[str],
    character: str,
    free_port: int,
) -> None:
    host = f"http://127.0.0.1:{free_port}"
    secret = f"{CANARY}{character}{CANARY}"
    for name in names:
        monkeypatch.setenv(name, secret)
    start = time.monotonic()
    audmodel.config.REPOSITORIES = [audmodel.Repository("models", host, backend)]
    with pytest.raises(errors.ConfigurationError, match="credentials") as info:
        audmodel.resolve_alias("a")
    assert time.monotonic() - start < 5
    check("".join(traceback.format_exception(info.value)))


@pytest.mark.parametrize("backend", [Artifactory, S3])
def test_what_is_given_and_cannot_be_sent(backend: type[Artifactory | S3]) -> None:
    secret = f"{CANARY}\0"
    with pytest.raises(errors.ConfigurationError, match="credentials") as info:
        backend("http://127.0.0.1:1", "models", authentication=(secret, secret))
    check("".join(traceback.format_exception(info.value)))


def test_a_secret_key_is_not_sent(hasty: None, free_port: int) -> None:
    host = f"http://127.0.0.1:{free_port}"
    # It may hold what no header does
    with (
        pytest.raises(errors.RepositoryUnreachableError),
        S3(host, "models", authentication=("key", f"{CANARY}\N{EURO SIGN}")) as backend,
    ):
        backend.read_object("/a", 10)


@pytest.mark.parametrize("backend", ["artifactory", "s3"])
def test_proxy_that_is_no_url(
    monkeypatch: pytest.MonkeyPatch, keys: None, login: None, backend: str
) -> None:
    # The library that refuses it quotes it
    monkeypatch.setenv("http_proxy", f"http://user:{CANARY}@proxy:port")
    audmodel.config.REPOSITORIES = [
        audmodel.Repository("models", "http://example.com", backend)
    ]
    start = time.monotonic()
    with pytest.raises(errors.RepositoryError, match="cannot be sent") as info:
        audmodel.resolve_alias("a")
    assert time.monotonic() - start < 5
    check("".join(traceback.format_exception(info.value)), describe(info.value))
    check(repr(info.value.exception))


@pytest.mark.parametrize("backend", [Artifactory, S3])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_password_of_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
    hasty: None,
    free_port: int,
    backend: type[Artifactory | S3],
    scheme: str,
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:{CANARY}@127.0.0.1:{free_port}")
    other = backend(f"{scheme}://example.com", "models", authentication=("a", "b"))
    with pytest.raises(errors.RepositoryUnreachableError) as info:
        other.read_object("/a", 10)
    check(describe(info.value))


HOSTS = (
    f"https://user:{CANARY}@example.com/artifactory",
    f"user:{CANARY}@example.com",
    f"http://{CANARY}@example.com",
    f"https://user:a/{CANARY}@b@example.com",
)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("backend", ["s3", "minio", "artifactory"])
def test_password_in_the_host(backend: str, host: str) -> None:
    repository = audmodel.Repository("models", host, backend)
    assert "example.com" in repr(repository)
    others = (copy.deepcopy(repository), pickle.loads(pickle.dumps(repository)))
    for one in (repository, *others):
        check(repr(one), str(one), *contents(one))
        assert one == repository
    check(repr(pickle.dumps(repository)))
    audmodel.config.REPOSITORIES = [repository]
    with pytest.raises(errors.ConfigurationError, match="credentials") as info:
        audmodel.exists("deadbeef-1.0.0")
    check(describe(info.value))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("backend", [Artifactory, S3])
def test_password_in_the_host_of_a_backend(
    backend: type[Artifactory | S3], host: str
) -> None:
    with pytest.raises(errors.ConfigurationError, match="credentials") as info:
        backend(host, "models")
    check(describe(info.value))


def test_hosts_without_password_stay_as_they_are() -> None:
    for host, backend in (
        ("/b@c/d", "file-system"),
        ("user:password@host", "of-a-user"),
        ("https://example.com/artifactory", "artifactory"),
    ):
        assert audmodel.Repository("a", host, backend).host == host
    assert repr(audmodel.Repository("a", "/b@c/d", "file-system")) == (
        "Repository('a', '/b@c/d', 'file-system')"
    )
    check(repr(audmodel.Repository("a", f"user:{CANARY}@host", "of-a-user")))


ENTRY = f"{{name: a, backend: s3, host: 'https://user:{CANARY}@example.com'}}"


@pytest.mark.parametrize(
    "content",
    [
        f"repositories: [{ENTRY}, 1]",
        f"repositories: [{ENTRY}, {{name: a}}]",
        f"repositories: ['s3:https://user:{CANARY}@example.com:a']",
        f"repositories: https://user:{CANARY}@example.com",
        f"repositories: {ENTRY}",
        f"repositories: [[{ENTRY}]]",
        f"repositories: [{ENTRY}",
        f"repositories: [{ENTRY}, *unknown]",
        f"cache_root: relative\nrepositories: [{ENTRY}]",
        f"cache_root: [{ENTRY}]",
        f"https://user:{CANARY}@example.com",
        f"? https://user:{CANARY}@example.com\n: 1\n",
        f"? [https://user:{CANARY}@example.com]\n: 1\n",
        f"https://user:{CANARY}@example.com: 1\n" * 2,
        f"repositories: [{{https://user:{CANARY}@example.com: 1}}]",
        f"repositories: [{ENTRY[:-1]}, https://user:{CANARY}@example.com: 1}}]",
        f"a: 1\n\tb: https://user:{CANARY}@example.com",
    ],
)
def test_password_in_a_configuration_that_cannot_be_used(
    content: str, home: Path
) -> None:
    path = home / ".config" / "audmodel.yaml"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    with pytest.raises(errors.ConfigurationError, match=r"audmodel\.yaml") as info:
        audmodel.models()
    check(describe(info.value))


def test_credentials_are_no_attributes() -> None:
    backend = S3("http://localhost:1", "b", authentication=("a", "geheim"))
    assert backend.authentication is None
    other = Artifactory("http://localhost:1", "b", authentication=("a", "geheim"))
    assert other.authentication is None


def test_verification_is_never_switched_off() -> None:
    package = Path(audmodel.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8").lower()
        assert "verify=false" not in text
        assert "cert_none" not in text


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("https://user:secret@host/a", "https://***@host/a"),
        ("user:secret@host", "***@host"),
        ("s3:https://user:secret@host:name", "s3:https://***@host:name"),
        ("https://user:sec://ret@host", "https://***@host"),
        ("user:sec://ret@host", "***@host"),
        ("https://user:sec@ret@host", "https://***@host"),
        ("https://host/a://b", "https://host/a://b"),
        ("host:9000", "host:9000"),
    ],
)
def test_login_with_any_characters(host: str, shown: str) -> None:
    assert without_login(host) == shown
