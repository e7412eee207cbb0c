"""What is private of boto3 and botocore is there, and does what it should."""

from __future__ import annotations

import datetime
import io
from pathlib import Path
import re
from typing import Any

import boto3
from botocore import exceptions
from botocore.awsrequest import AWSRequest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.response import StreamingBody
import botocore.session
import pytest
from urllib3.response import HTTPResponse

from audmodel.core.backend.s3 import private as s3_private
from tests.backends import seaweedfs
from tests.backends.proxy import Proxy


def locked(name: str) -> str:
    text = (seaweedfs.ROOT / "requirements" / f"{name}.txt").read_text()
    found = re.search(r"^boto3==(\S+)", text, re.MULTILINE)
    assert found is not None
    return found[1]


def test_versions_are_those_that_are_installed_and_locked() -> None:
    oldest, latest = s3_private.SEEN_WITH
    # Run the tests with a version before it is named
    assert (locked("oldest"), locked("demo")) == (oldest, latest)


def test_lock_of_credentials() -> None:
    core: Any = botocore.session.get_session()
    assert core._credentials is None
    core._credentials = RefreshableCredentials(
        "a", "b", "c", datetime.datetime.now(datetime.UTC), dict, "test"
    )
    assert core.get_credentials() is core._credentials
    assert core._credentials._refresh_lock.acquire(blocking=False)


@pytest.fixture
def session() -> Any:
    return boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b")


@pytest.fixture
def client(session: Any, weed: seaweedfs.SeaweedFS) -> Any:
    return session.client(
        "s3",
        endpoint_url=weed.url,
        region_name="us-east-1",
        aws_access_key_id=seaweedfs.ACCESS_KEY,
        aws_secret_access_key=seaweedfs.SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}),
    )


def test_default_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    assert s3_private.default_session() is None
    boto3.setup_default_session(region_name="eu-north-1")
    found = s3_private.default_session()
    assert found.region_name == "eu-north-1"
    assert boto3.client("s3").meta.region_name == "eu-north-1"


def test_core(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    core = s3_private.core(session)
    monkeypatch.setenv("AWS_CA_BUNDLE", "/bundle")
    assert core.get_config_variable("ca_bundle") == "/bundle"
    assert core.get_credentials().access_key == "a"


def test_credentials_that_are_read_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    def write(key: str) -> None:
        path.write_text(
            f"[default]\naws_access_key_id = {key}\naws_secret_access_key = b\n"
        )

    write("old")
    session: Any = boto3.session.Session()
    assert session.get_credentials().access_key == "old"
    assert not hasattr(session.get_credentials(), "refresh_needed")
    write("new")
    assert session.get_credentials().access_key == "old"
    assert s3_private.read_credentials(session).access_key == "new"


def test_descriptions() -> None:
    loader = s3_private.descriptions(None)
    model = loader.load_service_model("s3", "service-2")
    assert "PutObject" in model["operations"]
    with pytest.raises(exceptions.BotoCoreError):
        loader.load_service_model("none", "service-2")


def test_descriptions_that_are_added(tmp_path: Any) -> None:
    folder = tmp_path / "added" / "2026-01-01"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text('{"version": "2.0"}', encoding="utf-8")
    loader = s3_private.descriptions(str(tmp_path))
    assert loader.load_service_model("added", "service-2") == {"version": "2.0"}


def test_metadata_service() -> None:
    core = s3_private.core(boto3.session.Session())
    providers = core.get_component("credential_provider")
    assert any(each.METHOD == "iam-role" for each in providers.providers)
    s3_private.leave_metadata_service(core)
    assert not any(each.METHOD == "iam-role" for each in providers.providers)


def test_asking(client: Any, proxy: Proxy, bucket: str) -> None:
    made: list[dict[str, Any]] = []
    client.meta.events.register_last(
        "before-call.s3", lambda params, **_: made.append(dict(params["headers"]))
    )
    client.put_object(Bucket=bucket, Key="a", Body=bytes(2 * 1024 * 1024))
    s3_private.stop_asking(client)
    client.put_object(Bucket=bucket, Key="a", Body=bytes(2 * 1024 * 1024))
    assert "Expect" in made[0]
    assert "Expect" not in made[1]


def test_pools(client: Any, bucket: str) -> None:
    pools = s3_private.pool_classes(client)
    assert set(pools) == {"http", "https"}
    original: Any = pools["http"]
    used: list[object] = []

    class Pool(original):  # type: ignore[misc]  # known at run time only
        def urlopen(self, *arguments: Any, **options: Any) -> Any:
            used.append(self)
            return super().urlopen(*arguments, **options)

    pools["http"] = Pool
    client.list_objects_v2(Bucket=bucket)
    assert used


def test_http_session(client: Any, bucket: str) -> None:
    original = s3_private.http_session(client)
    sent: list[str] = []

    class Session:
        def send(self, request: Any) -> Any:
            sent.append(request.method)
            return original.send(request)

        def close(self) -> None:
            sent.append("closed")

    s3_private.set_http_session(client, Session())
    client.list_objects_v2(Bucket=bucket)
    client.close()
    assert sent == ["GET", "closed"]


def test_body_of_an_answer(client: Any, bucket: str) -> None:
    original = s3_private.http_session(client)
    left: list[bool] = []

    class Session:
        def send(self, request: Any) -> Any:
            left.append(s3_private.leave_body(request))
            response = original.send(request)
            if not left[-1]:
                # Nothing of it was read so far
                body = response.raw.read()
                s3_private.set_body(response, body.replace(b"false", b"true"))
            return response

    client.put_object(Bucket=bucket, Key="a", Body=b"abc")
    s3_private.set_http_session(client, Session())
    assert client.list_objects_v2(Bucket=bucket)["IsTruncated"] is True
    found = client.get_object(Bucket=bucket, Key="a")["Body"]
    stream = s3_private.stream(found)
    assert isinstance(stream, HTTPResponse)
    assert stream.read1(100) == b"abc"
    assert left == [False, True]


def test_requests_and_answers_of_botocore() -> None:
    request = AWSRequest("GET", "http://localhost").prepare()
    assert s3_private.leave_body(request) is False
    assert s3_private.leave_body(request) is True
    response = AWSResponse("http://localhost", 200, HTTPHeaders(), io.BytesIO(b"old"))
    s3_private.set_body(response, b"new")
    assert response.content == b"new"
    raw: Any = HTTPResponse(io.BytesIO(b"abc"), preload_content=False)
    assert s3_private.stream(StreamingBody(raw, 3)) is raw
