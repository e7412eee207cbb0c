"""How hosts are reached, and with which credentials."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from pathlib import Path
import socket
import ssl
import threading
from typing import Any
import warnings

import boto3
from botocore.credentials import SSOProvider
import pytest
import trustme

from audmodel import errors
from audmodel.core.backend.http import credentials
from audmodel.core.backend.http import transfer
from audmodel.core.backend.s3 import client as s3_client
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from audmodel.core.backend.s3 import private as s3_private
from audmodel.core.backend.s3 import session as s3_session
from audmodel.core.backend.s3.backend import S3
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response


@pytest.fixture
def config(home: Path) -> Path:
    """Place of the configuration file of audbackend."""
    path = home / ".config" / "audbackend" / "minio.cfg"
    path.parent.mkdir(parents=True)
    return path


# Hosts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "bucket", "url", "style", "region"),
    [
        ("localhost:9000", "b", "https://localhost:9000", "path", None),
        ("http://localhost:9000", "b", "http://localhost:9000", "path", None),
        ("http://localhost:9000/", "b", "http://localhost:9000", "path", None),
        ("https://minio.example.com", "b", "https://minio.example.com", "path", None),
        ("[::1]:9000", "b", "https://[::1]:9000", "path", None),
        ("s3.amazonaws.com", "b", "https://s3.amazonaws.com", "virtual", None),
        (
            "s3.eu-central-1.amazonaws.com",
            "b",
            "https://s3.eu-central-1.amazonaws.com",
            "virtual",
            "eu-central-1",
        ),
        (
            "s3.dualstack.eu-north-1.amazonaws.com",
            "audmodel-public",
            "https://s3.dualstack.eu-north-1.amazonaws.com",
            "virtual",
            "eu-north-1",
        ),
        (
            "s3.us-gov-west-1.amazonaws.com",
            "with.dots",
            "https://s3.us-gov-west-1.amazonaws.com",
            "path",
            "us-gov-west-1",
        ),
    ],
)
def test_endpoint(
    host: str, bucket: str, url: str, style: str, region: str | None
) -> None:
    endpoint = s3_endpoint.endpoint(host, bucket)
    assert endpoint.url == url
    assert endpoint.addressing_style == style
    assert endpoint.region == region


@pytest.mark.parametrize(
    "host",
    [
        "",
        "https://",
        "ftp://localhost",
        "localhost:port",
        "localhost:0",
        "localhost:99999",
        "localhost/path",
        "localhost?query",
        "[::1",
        "[nonsense]",
    ],
)
def test_invalid_host(host: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="host"):
        s3_endpoint.endpoint(host, "b")


def test_a_host_that_botocore_refuses() -> None:
    with pytest.raises(errors.ConfigurationError, match="cannot be used"):
        S3("http://under_score", "b").read_object("/a", 1)


def test_credentials_do_not_belong_into_the_host() -> None:
    with pytest.raises(errors.ConfigurationError) as info:
        s3_endpoint.endpoint("https://user:geheim@localhost", "b")
    assert "geheim" not in str(info.value)


@pytest.mark.parametrize(
    ("line", "secure"),
    [
        ("", True),
        ("secure = True", True),
        ("secure = yes", True),
        ("secure = False", False),
        ("secure = false", False),
        ("secure = 0", False),
        # As in released versions
        ("secure =", False),
        ("secure", False),
    ],
)
def test_secure(config: Path, line: str, secure: bool) -> None:
    config.write_text(f"[localhost:9000]\n{line}\n", encoding="utf-8")
    scheme = "https" if secure else "http"
    assert (
        s3_endpoint.endpoint("localhost:9000", "b").url == f"{scheme}://localhost:9000"
    )
    # What is said here counts more
    url = s3_endpoint.endpoint("localhost:9000", "b", secure=not secure).url
    assert not url.startswith(f"{scheme}:")
    assert s3_endpoint.endpoint("https://localhost:9000", "b").url.startswith("https:")


def test_settings_of_a_host(config: Path) -> None:
    config.write_text(
        "[other]\nregion = wrong\n"
        "[localhost:9000]\nregion = here\naddressing_style = virtual\n"
        "connect_timeout = 3\nread_timeout = None\n",
        encoding="utf-8",
    )
    endpoint = s3_endpoint.endpoint("localhost:9000", "b")
    assert endpoint.region == "here"
    assert endpoint.addressing_style == "virtual"
    assert endpoint.connect_timeout == 3
    assert endpoint.read_timeout is None


def test_there_is_always_a_limit_for_connecting(config: Path) -> None:
    config.write_text("[a]\nconnect_timeout = None\n", encoding="utf-8")
    assert s3_endpoint.endpoint("a", "b").connect_timeout == 5


@pytest.mark.parametrize(
    "line",
    [
        "secure = perhaps",
        "addressing_style = other",
        "connect_timeout = soon",
        "connect_timeout = 0",
        "read_timeout = -1",
        "read_timeout = nan",
    ],
)
def test_invalid_setting(config: Path, line: str) -> None:
    config.write_text(f"[localhost]\n{line}\n", encoding="utf-8")
    with pytest.raises(errors.ConfigurationError, match=line.split(" = ")[0]):
        s3_endpoint.endpoint("localhost", "b")


def test_region_is_learned_from_the_server(
    keys: None, patient: None, proxy: Proxy, bucket: str
) -> None:
    S3(proxy.url, bucket).write_object("/a", [b"x"])

    def elsewhere(request: Request, forward: Forward) -> Response | None:
        if "/us-east-1/s3/" in request.headers["authorization"]:
            body = (
                b"<Error><Code>AuthorizationHeaderMalformed</Code>"
                b"<Message>wrong region</Message><Region>eu-north-1</Region></Error>"
            )
            return faults.status(
                400,
                body,
                Content_Type="application/xml",
                X_Amz_Bucket_Region="eu-north-1",
            )(request, forward)
        return forward()

    proxy.fault = elsewhere
    stored = S3(proxy.url, bucket).read_object("/a", 10)
    assert stored is not None
    assert "/eu-north-1/s3/" in proxy.requests[-1].headers["authorization"]


# Credentials ------------------------------------------------------------------


def keys_of(host: str) -> tuple[str, str] | None:
    return s3_endpoint.endpoint(host, "b").keys


def test_order_of_credentials(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = "play.min.io:9000"
    assert keys_of(host) is None
    config.write_text(
        "[play.min.io]\naccess_key = name\nsecret_key = name\n", encoding="utf-8"
    )
    assert keys_of(host) == ("name", "name")
    config.write_text(
        "[play.min.io]\naccess_key = name\nsecret_key = name\n"
        "[play.min.io:9000]\naccess_key = \"host\"\nsecret_key = 'ho%%s%t'\n",
        encoding="utf-8",
    )
    assert keys_of(host) == ("host", "ho%%s%t")
    assert keys_of(f"https://{host}/") == ("host", "ho%%s%t")
    monkeypatch.setenv("MINIO_ACCESS_KEY", "all")
    monkeypatch.setenv("MINIO_SECRET_KEY", "all")
    assert keys_of(host) == ("all", "all")
    monkeypatch.setenv("MINIO_ACCESS_KEY_PLAY_MIN_IO", "one")
    monkeypatch.setenv("MINIO_SECRET_KEY_PLAY_MIN_IO", "one")
    assert keys_of(host) == ("one", "one")
    monkeypatch.setenv("MINIO_ACCESS_KEY_PLAY_MIN_IO_9000", "two")
    monkeypatch.setenv("MINIO_SECRET_KEY_PLAY_MIN_IO_9000", "two")
    assert keys_of(host) == ("two", "two")
    assert keys_of("other") == ("all", "all")
    assert s3_endpoint.endpoint(host, "b", keys=("a", "b")).keys == ("a", "b")


def test_percent_signs_as_audbackend_reads_them(config: Path) -> None:
    config.write_text("[a]\naccess_key = k\nsecret_key = a%%b\n", encoding="utf-8")
    assert keys_of("a") == ("k", "a%b")


def test_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.cfg"
    path.write_text("[a]\naccess_key = k\nsecret_key = s\n", encoding="utf-8")
    monkeypatch.setenv("MINIO_CONFIG_FILE", str(path))
    assert keys_of("a") == ("k", "s")


@pytest.mark.parametrize(
    "content",
    [b"secret_key = geheim\n", b"[a]\n[a]\n", b"[a\ngeheim\n", b"\xff\xfe\xff"],
)
def test_invalid_file(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    with pytest.raises(errors.ConfigurationError, match=r"minio\.cfg") as info:
        keys_of("a")
    assert "geheim" not in str(info.value)
    config.unlink()
    config.mkdir()
    with pytest.raises(errors.ConfigurationError, match="cannot be read"):
        keys_of("a")


def test_half_of_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", "a")
    with pytest.raises(errors.ConfigurationError, match="only one of access key"):
        keys_of("a")


def test_chain_of_boto3(
    weed: seaweedfs.SeaweedFS, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = weed.bucket()
    weed.client().put_object(Bucket=bucket, Key="a", Body=b"x")
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        S3(weed.url, bucket).read_object("/a", 10)
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[reader]\n"
        f"aws_access_key_id = {seaweedfs.READER_ACCESS_KEY}\n"
        f"aws_secret_access_key = {seaweedfs.READER_SECRET_KEY}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("AWS_PROFILE", "reader")
    assert S3(weed.url, bucket).read_object("/a", 10) is not None
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        S3(weed.url, bucket).write_object("/a", [b"x"])
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(errors.ConfigurationError, match="missing"):
        S3(weed.url, bucket).read_object("/a", 10)


@pytest.fixture
def profiles(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Profiles of the AWS tools, of which the default may do nothing."""
    folder = home / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = none\naws_secret_access_key = none\n"
        "[reader]\n"
        f"aws_access_key_id = {seaweedfs.READER_ACCESS_KEY}\n"
        f"aws_secret_access_key = {seaweedfs.READER_SECRET_KEY}\n"
        "[writer]\n"
        f"aws_access_key_id = {seaweedfs.ACCESS_KEY}\n"
        f"aws_secret_access_key = {seaweedfs.SECRET_KEY}\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return folder


def test_default_session_of_boto3(weed: seaweedfs.SeaweedFS, profiles: Path) -> None:
    backend = S3(weed.url, weed.bucket())
    with pytest.raises(errors.RepositoryError, match="credentials"):
        backend.write_object("/a", [b"x"])
    boto3.setup_default_session(profile_name="writer")
    backend.write_object("/a", [b"x"])
    boto3.setup_default_session(profile_name="reader")
    assert backend.read_object("/a", 10) is not None
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        backend.write_object("/a", [b"y"])
    boto3.setup_default_session(
        aws_access_key_id=seaweedfs.ACCESS_KEY,
        aws_secret_access_key=seaweedfs.SECRET_KEY,
    )
    backend.write_object("/a", [b"y"])
    boto3.setup_default_session()
    with pytest.raises(errors.RepositoryError, match="credentials"):
        backend.write_object("/a", [b"z"])


def test_keys_of_a_host_come_before_the_default_session(
    weed: seaweedfs.SeaweedFS, profiles: Path, keys: None
) -> None:
    boto3.setup_default_session(profile_name="reader")
    S3(weed.url, weed.bucket()).write_object("/a", [b"x"])


def test_default_session_decides_on_region_and_certificates(
    profiles: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    (profiles / "config").write_text(
        f"[profile writer]\nregion = eu-north-1\nca_bundle = {bundle}\n",
        encoding="utf-8",
    )
    boto3.setup_default_session(profile_name="writer")
    client = s3_client.client(s3_endpoint.endpoint("localhost:9000", "b"))
    assert client.meta.region_name == "eu-north-1"
    assert client._endpoint.http_session._session._verify == str(bundle)
    boto3.setup_default_session(profile_name="writer", region_name="here")
    client = s3_client.client(s3_endpoint.endpoint("localhost:9000", "b"))
    assert client.meta.region_name == "here"


def test_default_session_is_not_made_nor_changed(
    weed: seaweedfs.SeaweedFS, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = weed.bucket()
    monkeypatch.setenv("AWS_PROFILE", "writer")
    S3(weed.url, bucket).write_object("/a", [b"x"])
    assert boto3.DEFAULT_SESSION is None
    boto3.setup_default_session()
    S3(weed.url, bucket).write_object("/a", [b"x"])
    core = s3_private.core(s3_private.default_session())
    providers = core.get_component("credential_provider").providers
    assert any(provider.METHOD == "iam-role" for provider in providers)
    # What it makes asks whether bodies are welcome, as always
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=weed.url)
    asked: list[str] = []
    client.meta.events.register_last(
        "before-call.s3", lambda params, **_: asked.extend(params["headers"])
    )
    client.put_object(Bucket=bucket, Key="a", Body=bytes(2 * 1024 * 1024))
    assert "Expect" in asked


def replace(path: Path, content: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(content, encoding="utf-8")
    new.replace(path)


def keys_in_a_file(profile: str, access_key: str, secret_key: str) -> str:
    return (
        f"[{profile}]\naws_access_key_id = {access_key}\n"
        f"aws_secret_access_key = {secret_key}\n"
    )


@pytest.mark.parametrize("is_default", [True, False])
def test_credentials_that_are_rotated(
    weed: seaweedfs.SeaweedFS,
    profiles: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_default: bool,
) -> None:
    path = profiles / "credentials"
    backend = S3(weed.url, weed.bucket())
    replace(path, keys_in_a_file("p", "old", "old"))
    if is_default:
        boto3.setup_default_session(profile_name="p")
    else:
        monkeypatch.setenv("AWS_PROFILE", "p")
    with pytest.raises(errors.RepositoryError, match="credentials"):
        backend.write_object("/a", [b"x"])
    replace(path, keys_in_a_file("p", seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY))
    backend.write_object("/a", [b"x"])
    replace(
        path,
        keys_in_a_file("p", seaweedfs.READER_ACCESS_KEY, seaweedfs.READER_SECRET_KEY),
    )
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        backend.write_object("/a", [b"x"])


@pytest.mark.parametrize("is_default", [True, False])
def test_credentials_of_a_program_are_had_anew_when_they_are_refused(
    weed: seaweedfs.SeaweedFS,
    proxy: Proxy,
    profiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_default: bool,
) -> None:
    found = tmp_path / "found.json"
    calls = tmp_path / "calls"
    (profiles / "config").write_text(
        f"[profile p]\ncredential_process = sh -c 'echo >> {calls}; cat {found}'\n",
        encoding="utf-8",
    )

    def give(access_key: str, secret_key: str) -> None:
        keys = {"AccessKeyId": access_key, "SecretAccessKey": secret_key}
        replace(found, json.dumps({"Version": 1, **keys}))

    if is_default:
        boto3.setup_default_session(profile_name="p")
    else:
        monkeypatch.setenv("AWS_PROFILE", "p")
    monkeypatch.setattr(s3_session, "_LOOK_AGAIN", 0)
    give(seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY)
    backend = S3(proxy.url, weed.bucket())
    backend.write_object("/a", [b"x"])
    # They expired, and the program knows others
    give(seaweedfs.READER_ACCESS_KEY, seaweedfs.READER_SECRET_KEY)
    proxy.fault = faults.first(1, faults.s3_error(400, "ExpiredToken"))
    assert backend.read_object("/a", 10) is not None
    give("wrong", "wrong")
    proxy.fault = faults.first(1, faults.s3_error(403, "InvalidAccessKeyId"))
    with pytest.raises(errors.RepositoryError, match="credentials"):
        backend.write_object("/a", [b"x"])
    give(seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY)
    backend.write_object("/a", [b"x"])
    # It knows no others, and is not asked again and again
    proxy.fault = faults.s3_error(403, "InvalidAccessKeyId")
    monkeypatch.setattr(s3_session, "_LOOK_AGAIN", 60)
    for _ in range(2):
        with proxy.counting() as requests, pytest.raises(errors.RepositoryError):
            backend.write_object("/a", [b"x"])
        assert len(requests) == 1
    before = calls.read_text()
    with pytest.raises(errors.RepositoryError):
        backend.write_object("/a", [b"x"])
    assert calls.read_text() == before


def test_single_sign_on(
    weed: seaweedfs.SeaweedFS, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = "https://start.example.com"
    (profiles / "config").write_text(
        f"[profile sso]\nsso_start_url = {start}\nsso_region = eu-north-1\n"
        "sso_account_id = 123456789012\nsso_role_name = publisher\n",
        encoding="utf-8",
    )
    cache = profiles / "sso" / "cache"
    cache.mkdir(parents=True)
    # botocore looked for the home of the user when it was imported
    monkeypatch.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(cache))
    name = hashlib.sha1(start.encode()).hexdigest()  # as the AWS tools name it
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    token = {
        "startUrl": start,
        "region": "eu-north-1",
        "accessToken": "token",
        "expiresAt": later.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    (cache / f"{name}.json").write_text(json.dumps(token), encoding="utf-8")
    found = {
        "accessKeyId": seaweedfs.ACCESS_KEY,
        "secretAccessKey": seaweedfs.SECRET_KEY,
        "sessionToken": "",
        "expiration": int(later.timestamp() * 1000),
    }
    asked: list[Request] = []

    def portal(request: Request, forward: Forward) -> Response | None:
        asked.append(request)
        body = json.dumps({"roleCredentials": found}).encode()
        return faults.status(200, body)(request, forward)

    with Proxy(weed.host) as proxy:
        proxy.fault = portal
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", proxy.url)
        boto3.setup_default_session(profile_name="sso")
        backend = S3(weed.url, weed.bucket())
        backend.write_object("/a", [b"x"])
        boto3.setup_default_session()
        monkeypatch.setenv("AWS_PROFILE", "sso")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        backend.write_object("/a", [b"x"])
    assert len(asked) == 2
    assert "role_name=publisher" in asked[0].path
    # Nobody signed on, or not today
    (cache / f"{name}.json").unlink()
    boto3.setup_default_session(profile_name="sso")
    with pytest.raises(errors.RepositoryError, match="credentials could not be loaded"):
        backend.write_object("/a", [b"x"])


def test_anonymous_access(weed: seaweedfs.SeaweedFS) -> None:
    bucket = weed.bucket("public")
    weed.client().put_object(Bucket=bucket, Key="a", Body=b"x")
    assert S3(weed.url, bucket).read_object("/a", 10) is not None
    assert S3(weed.url, bucket).list_objects("/") == ["/a"]


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_ACCESS_KEY_ID": "another", "AWS_SECRET_ACCESS_KEY": "place"},
        {"AWS_CONFIG_FILE": "{config}", "AWS_PROFILE": "broken"},
    ],
)
def test_credentials_for_another_place(
    weed: seaweedfs.SeaweedFS,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile broken]\ncredential_process = false\n", encoding="utf-8"
    )
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(config=config))
    public, private = weed.bucket("public"), weed.bucket("private")
    for bucket in (public, private):
        weed.client().put_object(Bucket=bucket, Key="a", Body=b"x")
    with S3(proxy.url, public) as backend:
        assert backend.read_object("/missing", 10) is None
        assert backend.read_object("/a", 10) is not None
        with proxy.counting() as requests:
            assert backend.read_object("/a", 10) is not None
        assert len(requests) == 1
    with S3(proxy.url, public) as backend:
        assert backend.read_object("/a", 10) is not None
    # The reason is the credentials, not that there might be none
    with (
        S3(proxy.url, private) as backend,
        pytest.raises(errors.RepositoryError, match="credentials"),
    ):
        backend.read_object("/a", 10)
    with (
        S3(proxy.url, public) as backend,
        pytest.raises(errors.RepositoryError, match="credentials"),
    ):
        backend.write_object("/a", [b"x"])


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [("Amazon EC2\n", True), ("Xen\n", True), ("QEMU\n", False), (None, False)],
)
def test_metadata_service_is_asked_only_where_there_is_one(
    tmp_path: Path, vendor: str | None, expected: bool
) -> None:
    path = tmp_path / "sys_vendor"
    if vendor is not None:
        path.write_text(vendor, encoding="ascii")
    assert s3_client._may_be_ec2(str(path)) == expected


def test_metadata_service_of_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert s3_client._may_be_ec2()


def test_no_user_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from audmodel.core.backend.s3 import requests as s3_requests

    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert s3_requests.user() == "unknown"
    monkeypatch.setattr("getpass.getuser", lambda: "Jörg")
    assert s3_requests.user() == "J?rg"


def test_clients_are_used_again(keys: None) -> None:
    endpoint = s3_endpoint.endpoint("http://localhost:9000", "b")
    assert s3_client.client(endpoint) is s3_client.client(endpoint)
    assert s3_client.client(endpoint, anonymous=True) is not s3_client.client(endpoint)


def test_clients_of_the_past_are_not_kept(
    keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = s3_endpoint.endpoint("http://localhost:9000", "b")
    first = s3_client.client(endpoint)
    for number in range(20):
        monkeypatch.setenv("HTTP_PROXY", f"http://localhost:{number + 1}")
        s3_client.client(endpoint)
    assert len(s3_client._clients._values) == 16
    monkeypatch.delenv("HTTP_PROXY")
    assert s3_client.client(endpoint) is not first


def test_names_of_hosts() -> None:
    assert credentials.names_of("https://a.b:9/c/") == [
        "https://a.b:9/c/",
        "a.b:9/c",
        "a.b:9",
        "a.b",
    ]


# TLS --------------------------------------------------------------------------


class TlsServer:
    """Server with a certificate that answers every request with one object."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> TlsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with raw, contextlib.suppress(OSError):
                raw.settimeout(5)
                with self._context.wrap_socket(raw, server_side=True) as connection:
                    # A client that does not like the certificate says nothing
                    self.requests += bool(connection.recv(10000))
                    connection.sendall(
                        b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 1\r\n'
                        b"X-JFrog-Version: 7\r\n"
                        b"Connection: close\r\n\r\nx"
                    )


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def tls(authority: trustme.CA, *names: str, **settings: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, **settings).configure_cert(context)
    return context


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.mark.parametrize(
    "name", ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]
)
def test_an_authority_of_your_own(
    authority: trustme.CA,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    keys: None,
) -> None:
    monkeypatch.setenv(name, str(bundle))
    with TlsServer(tls(authority, "127.0.0.1")) as server:
        assert S3(f"127.0.0.1:{server.port}", "b").read_object("/a", 10) is not None


@pytest.mark.parametrize(
    "case", ["unknown", "empty variable", "name", "expired", "old"]
)
def test_what_is_not_to_be_trusted_is_refused(
    authority: trustme.CA,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    keys: None,
    hasty: None,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    names, settings = ["127.0.0.1"], {}
    if case == "unknown":
        monkeypatch.delenv("AWS_CA_BUNDLE")
    elif case == "empty variable":
        monkeypatch.setenv("AWS_CA_BUNDLE", "")
    elif case == "name":
        names = ["example.com"]
    elif case == "expired":
        settings["not_after"] = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    context = tls(authority, *names, **settings)
    if case == "old":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT@SECLEVEL=0")
    with TlsServer(context) as server:
        backend = S3(f"127.0.0.1:{server.port}", "b")
        for call in (
            lambda: backend.read_object("/a", 10),
            lambda: backend.list_objects("/"),
            lambda: backend.write_object("/a", [b"x"]),
        ):
            with pytest.raises(errors.RepositoryError, match="TLS connection failed"):
                call()
        assert server.requests == 0


def test_no_encryption_where_it_is_expected(
    keys: None, hasty: None, weed: seaweedfs.SeaweedFS
) -> None:
    with pytest.raises(errors.RepositoryError):
        S3(weed.host, "b").read_object("/a", 10)


# Logs -------------------------------------------------------------------------


def test_retries_are_logged(
    keys: None,
    patient: None,
    proxy: Proxy,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "audmodel")
    proxy.fault = faults.first(2, faults.s3_error(503, "SlowDown"))
    S3(proxy.url, bucket).read_object("/a", 10)
    assert caplog.text.count("Trying again") == 2


def test_an_error_of_a_request_names_its_cause() -> None:
    cause = ValueError("cause")
    failure = transfer.RequestError(transfer.Kind.OTHER, "reason.", cause)
    error = failure.error("Could not do it")
    assert str(error) == "Could not do it: reason."
    assert type(error.__cause__) is ValueError
    assert str(error.__cause__) == "cause"
