"""Writes under a condition: one winner, no false conflict, no guess."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
import warnings

import pytest

from audmodel import errors
from audmodel.core.backend import transfer
from audmodel.core.backend.s3 import S3
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.proxy import Answer
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request


@pytest.fixture
def backend(keys: None, hasty: None, proxy: Proxy, bucket: str) -> Iterator[S3]:
    with S3(proxy.url, bucket) as backend:
        yield backend


def is_write(request: Request) -> bool:
    return request.method == "PUT"


def is_look(request: Request) -> bool:
    return request.method in ("HEAD", "GET")


def read(backend: S3, path: str) -> bytes | None:
    stored = backend.read_object(path, 100)
    return None if stored is None else stored.data


def tag(backend: S3, path: str) -> str:
    stored = backend.read_object(path, 100)
    assert stored is not None
    return stored.tag


LOST = [
    faults.lose_answer,
    faults.break_before,
    faults.s3_error(500, "InternalError"),
    faults.s3_error(503, "SlowDown"),
    faults.s3_error(409, "ConditionalRequestConflict"),
    faults.s3_error(409, "OperationAborted"),
    faults.change(stall_after=0, status=200, body=b"x" * 10, Content_Length="10"),
]


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
    known = tag(backend, "/a")
    proxy.fault = faults.first(count, fault, when=is_write)
    assert backend.replace_object("/a", b"new", known)
    assert read(backend, "/a") == b"new"


def test_the_same_content_of_somebody_else_is_not_ours(
    backend: S3, proxy: Proxy
) -> None:
    def somebody_else_first(request: Request, forward: Forward) -> Answer | None:
        proxy.fault = None
        with S3(proxy.url, backend.repository) as other:
            assert other.create_object("/a", b"same")
        forward()
        return None

    proxy.fault = faults.first(1, somebody_else_first, when=is_write)
    assert not backend.create_object("/a", b"same")


def test_somebody_else_replaced_it(backend: S3, proxy: Proxy) -> None:
    assert backend.create_object("/a", b"old")
    known = tag(backend, "/a")

    def somebody_else_first(request: Request, forward: Forward) -> Answer | None:
        proxy.fault = None
        with S3(proxy.url, backend.repository) as other:
            assert other.replace_object("/a", b"theirs", known)
        return forward()

    proxy.fault = faults.first(1, somebody_else_first, when=is_write)
    assert not backend.replace_object("/a", b"ours", known)
    assert read(backend, "/a") == b"theirs"


def test_a_proxy_that_sends_a_write_twice(backend: S3, proxy: Proxy) -> None:
    def twice(_: Request, forward: Forward) -> Answer:
        forward()
        return forward()

    proxy.fault = faults.first(1, twice, when=is_write)
    assert backend.create_object("/a", b"ours")


def test_a_replaced_object_that_is_gone(backend: S3, proxy: Proxy) -> None:
    # As AWS answers
    proxy.fault = faults.first(1, faults.s3_error(404, "NoSuchKey"), when=is_write)
    assert not backend.replace_object("/a", b"new", '"0"')


@pytest.mark.parametrize("writes", [faults.lose_answer, faults.break_before])
def test_nobody_can_tell(backend: S3, proxy: Proxy, writes: faults.Fault) -> None:
    def fault(request: Request, forward: Forward) -> Answer | None:
        return writes(request, forward) if is_write(request) else None

    proxy.fault = fault
    with pytest.raises(errors.WriteUncertainError, match="nobody can tell"):
        backend.create_object("/a", b"x")
    with pytest.raises(errors.WriteUncertainError, match="nobody can tell"):
        backend.replace_object("/a", b"x", '"0"')


def test_a_write_may_still_arrive(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(1000, faults.break_before, when=is_write)
    with pytest.raises(errors.WriteUncertainError, match="nobody can tell"):
        backend.create_object("/a", b"x")


def test_a_busy_server_did_nothing(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(1000, faults.s3_error(503, "SlowDown"), when=is_write)
    with pytest.raises(errors.RepositoryUnreachableError, match="503 SlowDown"):
        backend.create_object("/a", b"x")


def test_a_refused_write_is_not_looked_up(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(1, faults.s3_error(403, "AccessDenied"), when=is_write)
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        backend.create_object("/a", b"x")
    assert [request.method for request in proxy.requests] == ["PUT"]


# Stores without conditions ----------------------------------------------------


def ignore_conditions(weed: seaweedfs.SeaweedFS) -> faults.Fault:
    """The store that ignores conditions, as several do."""

    def fault(request: Request, forward: Forward) -> Answer:
        if is_write(request):
            _, bucket, key = request.path.split("?")[0].split("/", 2)
            answer = weed.client().put_object(Bucket=bucket, Key=key, Body=request.body)
            headers = [("ETag", answer["ETag"]), ("Content-Length", "0")]
            return Answer(200, headers)
        return forward()

    return fault


def refuse_conditions(request: Request, forward: Forward) -> Answer | None:
    """The store that answers conditions with an error, as others do."""
    if {"if-none-match", "if-match"} & set(request.headers):
        return faults.s3_error(501, "NotImplemented")(request, forward)
    answer = forward()
    answer.replace("Server", "Strange")
    return answer


@pytest.mark.parametrize("refuses", [True, False])
def test_a_store_without_conditions_is_found_out(
    backend: S3, proxy: Proxy, weed: seaweedfs.SeaweedFS, refuses: bool
) -> None:
    proxy.fault = refuse_conditions if refuses else ignore_conditions(weed)
    with pytest.warns(UserWarning, match="has no conditional writes"):
        assert backend.create_object("/a", b"ours")
    with warnings.catch_warnings():
        # Once is enough
        warnings.simplefilter("error")
        assert not backend.create_object("/a", b"other")
        assert read(backend, "/a") == b"ours"
        known = tag(backend, "/a")
        assert backend.replace_object("/a", b"new", known)
        assert not backend.replace_object("/a", b"newer", known)
        assert not backend.replace_object("/missing", b"newer", known)
        assert read(backend, "/a") == b"new"


def test_a_store_that_refuses_to_replace(backend: S3, proxy: Proxy) -> None:
    backend.write_object("/a", [b"old"])
    known = tag(backend, "/a")
    proxy.fault = refuse_conditions
    with pytest.warns(UserWarning, match="has no conditional writes"):
        assert backend.replace_object("/a", b"new", known)
    assert read(backend, "/a") == b"new"


def test_an_unknown_store_is_tested_once(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.change(Server="Strange")
    with proxy.counting() as requests:
        assert backend.create_object("/a", b"ours")
    assert len(requests) == 2
    with proxy.counting() as requests:
        assert backend.create_object("/b", b"ours")
    assert len(requests) == 1
    assert read(backend, "/a") == b"ours"


@pytest.mark.parametrize(
    ("server", "requests"),
    [
        ("AmazonS3", 1),
        ("MinIO", 1),
        ("SeaweedFS 8000GB 4.48", 1),
        ("SeaweedFS 30GB 4.18", 1),
        ("SeaweedFS 30GB 5.00", 1),
        # It let two of them win
        ("SeaweedFS 30GB 4.17", 2),
        ("SeaweedFS 30GB 3.97", 2),
        ("nginx", 2),
        (None, 2),
    ],
)
def test_known_stores_are_not_tested(
    backend: S3, proxy: Proxy, server: str | None, requests: int
) -> None:
    proxy.fault = faults.change(Server=server)
    with proxy.counting() as seen:
        assert backend.create_object("/a", b"ours")
    assert len(seen) == requests


def test_trouble_while_a_store_is_tested(
    backend: S3, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def fault(request: Request, forward: Forward) -> Answer | None:
        if is_write(request):
            seen.append(request)
        if len(seen) > 1 and is_write(request):
            return faults.s3_error(403, "AccessDenied")(request, forward)
        answer = forward()
        answer.replace("Server", "Strange")
        return answer

    proxy.fault = fault
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        backend.create_object("/a", b"ours")
