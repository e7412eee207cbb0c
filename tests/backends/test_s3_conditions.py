"""Writes under a condition: one winner, no false conflict, no guess."""

from __future__ import annotations

from collections.abc import Iterator
import functools
from typing import Any

import pytest

import audmodel
from audmodel import errors
from audmodel.core.backend import conditions
from audmodel.core.backend.http import transfer
from audmodel.core.backend.s3.backend import S3
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response


@pytest.fixture
def backend(
    keys: None,
    hasty: None,
    proxy: Proxy,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[S3]:
    direct()  # which takes a while the first time
    # A few that meet say as much as many
    monkeypatch.setattr(conditions, "RACERS", 4)
    monkeypatch.setattr(conditions, "REPLACERS", 2)
    with S3(proxy.url, bucket) as backend:
        # It learns what the server is
        assert backend.read_object("/none", 1) is None
        yield backend


def is_write(request: Request) -> bool:
    return request.method == "PUT"


def is_look(request: Request) -> bool:
    return request.method in ("HEAD", "GET")


def read(backend: S3, path: str) -> bytes | None:
    stored = backend.read_object(path, 100)
    return None if stored is None else stored.data


def etag(backend: S3, path: str) -> str:
    stored = backend.read_object(path, 100)
    assert stored is not None
    return stored.etag


LOST = [
    faults.lose_response,
    faults.break_before,
    faults.s3_error(500, "InternalError"),
    faults.s3_error(503, "SlowDown"),
    faults.s3_error(409, "ConditionalRequestConflict"),
    faults.s3_error(409, "OperationAborted"),
    faults.change(stall_after=0, status=200, body=b"x" * 10, Content_Length="10"),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("count", [1, 2])
def test_our_write_is_recognised(
    backend: S3,
    proxy: Proxy,
    fault: faults.Fault,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "BUDGET", 10.0)
    proxy.fault = faults.first(count, fault, when=is_write)
    assert backend.create_object("/a", b"ours")
    assert read(backend, "/a") == b"ours"
    known = etag(backend, "/a")
    proxy.fault = faults.first(count, fault, when=is_write)
    assert backend.replace_object("/a", b"new", known)
    assert read(backend, "/a") == b"new"


def test_the_same_content_of_somebody_else_is_not_ours(
    backend: S3, proxy: Proxy
) -> None:
    def somebody_else_first(request: Request, forward: Forward) -> Response | None:
        proxy.fault = None
        with S3(proxy.url, backend.repository) as other:
            assert other.create_object("/a", b"same")
        forward()
        return None

    proxy.fault = faults.first(1, somebody_else_first, when=is_write)
    assert not backend.create_object("/a", b"same")


def test_somebody_else_replaced_it(backend: S3, proxy: Proxy) -> None:
    assert backend.create_object("/a", b"old")
    known = etag(backend, "/a")

    def somebody_else_first(request: Request, forward: Forward) -> Response | None:
        proxy.fault = None
        with S3(proxy.url, backend.repository) as other:
            assert other.replace_object("/a", b"theirs", known)
        return forward()

    proxy.fault = faults.first(1, somebody_else_first, when=is_write)
    assert not backend.replace_object("/a", b"ours", known)
    assert read(backend, "/a") == b"theirs"


def test_a_proxy_that_sends_a_write_twice(backend: S3, proxy: Proxy) -> None:
    def twice(_: Request, forward: Forward) -> Response:
        forward()
        return forward()

    proxy.fault = faults.first(1, twice, when=is_write)
    assert backend.create_object("/a", b"ours")


def test_a_replaced_object_that_is_gone(backend: S3, proxy: Proxy) -> None:
    # As AWS answers
    proxy.fault = faults.first(1, faults.s3_error(404, "NoSuchKey"), when=is_write)
    assert not backend.replace_object("/a", b"new", '"0"')


@pytest.mark.sample(1)
@pytest.mark.parametrize("writes", [faults.lose_response, faults.break_before])
def test_nobody_can_tell(backend: S3, proxy: Proxy, writes: faults.Fault) -> None:
    def fault(request: Request, forward: Forward) -> Response | None:
        return writes(request, forward) if is_write(request) else None

    proxy.fault = fault
    with pytest.raises(errors.WriteUncertainError, match="outcome of the write"):
        backend.create_object("/a", b"x")
    with pytest.raises(errors.WriteUncertainError, match="outcome of the write"):
        backend.replace_object("/a", b"x", '"0"')


def test_a_write_may_still_arrive(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(1000, faults.break_before, when=is_write)
    with pytest.raises(errors.WriteUncertainError, match="outcome of the write"):
        backend.create_object("/a", b"x")


def test_a_busy_server_did_nothing(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(1000, faults.s3_error(503, "SlowDown"), when=is_write)
    with pytest.raises(errors.RepositoryUnreachableError, match="503 SlowDown"):
        backend.create_object("/a", b"x")


def test_a_refused_write_is_not_looked_up(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(1, faults.s3_error(403, "AccessDenied"), when=is_write)
    with (
        proxy.counting() as requests,
        pytest.raises(errors.RepositoryError, match="access is denied"),
    ):
        backend.create_object("/a", b"x")
    assert len(requests) == 1


def test_a_refused_write_that_cannot_be_looked_up(backend: S3, proxy: Proxy) -> None:
    """The refusal may be one of a second attempt by a proxy."""
    refuse = faults.s3_error(412, "PreconditionFailed")
    fail = faults.s3_error(503, "SlowDown")

    def fault(request: Request, forward: Forward) -> Response | None:
        return (refuse if is_write(request) else fail)(request, forward)

    proxy.fault = fault
    with pytest.raises(errors.WriteUncertainError, match="Could not look up"):
        backend.create_object("/a", b"x")


def test_a_condition_that_holds_is_refused_now_and_then(
    backend: S3, proxy: Proxy
) -> None:
    refuse = faults.s3_error(412, "PreconditionFailed")
    proxy.fault = faults.first(3, refuse, when=is_write)
    assert backend.create_object("/a", b"old")
    known = etag(backend, "/a")
    proxy.fault = faults.first(3, refuse, when=is_write)
    assert backend.replace_object("/a", b"new", known)
    assert read(backend, "/a") == b"new"


@pytest.mark.parametrize("code", [404, 412])
def test_a_store_that_refuses_conditions_that_hold(
    backend: S3, proxy: Proxy, code: int
) -> None:
    assert backend.create_object("/a", b"old")
    known = etag(backend, "/a")
    name = {404: "NoSuchKey", 412: "PreconditionFailed"}[code]
    proxy.fault = faults.first(1000, faults.s3_error(code, name), when=is_write)
    with (
        proxy.counting() as requests,
        pytest.raises(errors.UnprotectedRepositoryError, match="condition holds"),
    ):
        backend.replace_object("/a", b"new", known)
    assert len(requests) == 8
    # It is known from now on
    with (
        proxy.counting() as requests,
        pytest.raises(errors.UnprotectedRepositoryError, match="condition holds"),
    ):
        backend.create_object("/b", b"new")
    assert not requests
    proxy.fault = None
    backend.unprotected = True
    assert backend.replace_object("/a", b"new", known)


@pytest.mark.thorough
def test_a_real_store_that_refuses_conditions_that_hold(
    keys: None, hasty: None, weed: seaweedfs.SeaweedFS
) -> None:
    def version(status: str) -> None:
        weed.client().put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": status}
        )

    bucket = weed.bucket()
    path = "/_alias/production/1.0.0/production-1.0.0.alias.yaml"
    repository = audmodel.Repository(bucket, weed.url, "s3")
    version("Enabled")
    with S3(weed.url, bucket) as backend:
        assert backend.create_object(path, b"old")
        report = audmodel.check_repository(repository)
        assert report.ok
        assert "replace an existing record" in str(report)
        assert read(backend, path) == b"old"
        # What was stored before cannot be replaced from now on
        version("Suspended")
        report = audmodel.check_repository(repository)
        assert not report.ok
        assert "FAIL replace an existing record" in str(report)
        assert "condition holds" in str(report)
        with pytest.raises(errors.UnprotectedRepositoryError, match="suspended"):
            backend.replace_object(path, b"new", etag(backend, path))
        assert read(backend, path) == b"old"


# Stores without conditions ----------------------------------------------------


@functools.cache
def direct() -> Any:
    """What writes to the server without anybody in between."""
    return seaweedfs.shared().client()


def ignore_conditions(request: Request, forward: Forward) -> Response | None:
    """The store that ignores conditions, as several do."""
    if not is_write(request):
        return strange(request, forward)
    _, bucket, key = request.path.split("?")[0].split("/", 2)
    response = direct().put_object(Bucket=bucket, Key=key, Body=request.body)
    return Response(200, [("ETag", response["ETag"]), ("Content-Length", "0")])


def refuse_conditions(request: Request, forward: Forward) -> Response | None:
    """The store that answers conditions with an error, as others do."""
    if {"if-none-match", "if-match"} & set(request.headers) and is_write(request):
        return faults.s3_error(501, "NotImplemented")(request, forward)
    return strange(request, forward)


# A server that does not say what it is
strange = faults.change(Server="Strange")


@pytest.mark.parametrize("fault", [refuse_conditions, ignore_conditions])
def test_a_store_without_conditions_is_refused(
    backend: S3, proxy: Proxy, fault: faults.Fault
) -> None:
    backend.write_object("/old", [b"old"])
    known = etag(backend, "/old")
    proxy.fault = fault
    read(backend, "/old")
    for _ in range(2):
        with pytest.raises(errors.UnprotectedRepositoryError, match="unprotected: tru"):
            backend.create_object("/a", b"ours")
        with pytest.raises(errors.UnprotectedRepositoryError, match=proxy.url):
            backend.replace_object("/old", b"new", known)
    assert backend.list_objects("/") == ["/old"]
    assert read(backend, "/old") == b"old"


@pytest.mark.parametrize("fault", [refuse_conditions, ignore_conditions])
def test_a_store_without_conditions_that_is_wanted(
    backend: S3, proxy: Proxy, fault: faults.Fault
) -> None:
    proxy.fault = fault
    read(backend, "/a")
    backend.unprotected = True
    assert backend.create_object("/a", b"ours")
    assert not backend.create_object("/a", b"other")
    assert read(backend, "/a") == b"ours"
    known = etag(backend, "/a")
    assert backend.replace_object("/a", b"new", known)
    assert not backend.replace_object("/a", b"newer", known)
    assert not backend.replace_object("/missing", b"newer", known)
    assert read(backend, "/a") == b"new"
    assert backend.list_objects("/") == ["/a"]


def test_a_store_that_writes_what_is_missing(backend: S3, proxy: Proxy) -> None:
    def fault(request: Request, forward: Forward) -> Response | None:
        if "if-match" in request.headers and is_write(request):
            response = forward()
            # As MinIO did for years
            if b"again" in request.body:
                return ignore_conditions(request, forward)
            response.replace("Server", "MinIO")
            return response
        return faults.change(Server="MinIO")(request, forward)

    proxy.fault = fault
    read(backend, "/a")
    with pytest.raises(
        errors.UnprotectedRepositoryError, match="replace what is missing: it was stor"
    ):
        backend.create_object("/a", b"ours")


def test_an_unknown_store_is_tested_once(backend: S3, proxy: Proxy) -> None:
    proxy.fault = strange
    read(backend, "/a")
    assert backend.create_object("/a", b"ours")
    with proxy.counting() as requests:
        assert backend.create_object("/b", b"ours")
        with S3(proxy.url, backend.repository) as other:
            assert other.create_object("/c", b"ours")
    assert len(requests) == 2
    assert sorted(backend.list_objects("/")) == ["/a", "/b", "/c"]


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("server", "tested"),
    [
        ("SeaweedFS 8000GB 4.48", False),
        ("SeaweedFS 30GB 4.18", False),
        ("SeaweedFS 30GB 5.00", False),
        # It let two of them win
        ("SeaweedFS 30GB 4.17", True),
        ("SeaweedFS 30GB 3.97", True),
        # As rclone introduces itself, which ignores all conditions
        ("AmazonS3", True),
        # It did so for years before it honoured conditions
        ("MinIO", True),
        ("nginx", True),
        (None, True),
    ],
)
def test_known_stores_are_not_tested(
    backend: S3,
    proxy: Proxy,
    server: str | None,
    tested: bool,
) -> None:
    proxy.fault = faults.change(Server=server)
    read(backend, "/a")
    with proxy.counting() as seen:
        assert backend.create_object("/a", b"ours")
    assert (len(seen) > 1) == tested


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("s3.eu-central-1.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("http://s3.eu-central-1.amazonaws.com", False),
        ("s3.amazonaws.com.example.com", False),
        ("localhost:9000", False),
    ],
)
def test_aws_is_known_by_its_certificate(keys: None, host: str, known: bool) -> None:
    backend = S3(host, "models")
    assert backend._writes._is_known_store() == known


def test_a_known_store_that_refuses_all_the_same(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(1, faults.s3_error(501, "NotImplemented"), when=is_write)
    with pytest.raises(errors.UnprotectedRepositoryError, match="501"):
        backend.create_object("/a", b"ours")
    with pytest.raises(errors.UnprotectedRepositoryError, match="501"):
        backend.replace_object("/a", b"ours", "etag")
    assert backend.list_objects("/") == []


def test_trouble_while_a_store_is_tested(backend: S3, proxy: Proxy) -> None:
    proxy.fault = strange
    read(backend, "/a")
    denied = faults.s3_error(403, "AccessDenied")
    proxy.fault = faults.first(100, denied, when=is_write)
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        backend.create_object("/a", b"ours")
    # It says nothing about the store
    proxy.fault = strange
    assert backend.create_object("/a", b"ours")
