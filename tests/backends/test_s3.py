"""Objects in a bucket: what is there, what is not, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
import hashlib
from pathlib import Path
import threading
import time
from typing import Any

import pytest

from audmodel import errors
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.http import pace
from audmodel.core.backend.http import transfer
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.reader import TAIL
from audmodel.core.backend.s3 import client as s3_client
from audmodel.core.backend.s3.backend import S3
from audmodel.core.ranges import Ranges
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response


MIB = 1024 * 1024
LARGE = hashlib.shake_128(b"large").digest(3 * MIB)


@pytest.fixture
def backend(keys: None, weed: seaweedfs.SeaweedFS, bucket: str) -> Iterator[S3]:
    with S3(weed.url, bucket) as backend:
        yield backend


@pytest.fixture
def proxied(keys: None, hasty: None, proxy: Proxy, bucket: str) -> Iterator[S3]:
    """Backend that reaches the server through a proxy."""
    with S3(proxy.url, bucket) as backend:
        yield backend


def is_get(request: Request) -> bool:
    return request.method == "GET"


def is_put(request: Request) -> bool:
    return request.method == "PUT"


# Small objects ----------------------------------------------------------------


def test_replace(backend: S3) -> None:
    assert not backend.replace_object("/a", b"new", '"0"')
    assert backend.create_object("/a", b"old")
    stored = backend.read_object("/a", 100)
    assert stored is not None
    assert not backend.replace_object("/a", b"new", '"0"')
    assert backend.replace_object("/a", b"new", stored.etag)
    assert not backend.replace_object("/a", b"newer", stored.etag)
    stored = backend.read_object("/a", 100)
    assert stored is not None
    assert stored.data == b"new"


def test_of_concurrent_creators_one_wins(keys: None, proxy: Proxy, bucket: str) -> None:
    barrier = threading.Barrier(4)
    won: list[int] = []

    def create(number: int) -> None:
        with S3(proxy.url, bucket) as backend:
            barrier.wait()
            if backend.create_object("/a", str(number).encode()):
                won.append(number)

    threads = [threading.Thread(target=create, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    with S3(proxy.url, bucket) as backend:
        stored = backend.read_object("/a", 100)
    assert stored is not None
    assert stored.data == str(won[0]).encode()


def test_many_objects_are_listed_page_by_page(
    proxied: S3, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        proxied.write_object(f"/f/{number}", [b"x"])
    send = proxied._store.send

    def in_small_pages(operation: str, **arguments: Any) -> Any:
        return send(operation, **arguments, MaxKeys=2)

    monkeypatch.setattr(proxied._store, "send", in_small_pages)
    with proxy.counting() as requests:
        assert sorted(proxied.list_objects("/f/")) == [f"/f/{n}" for n in range(5)]
    assert len(requests) == 3


def test_a_listing_without_end_ends(
    proxied: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same_page(operation: str, **_: Any) -> Any:
        return {"Contents": [], "IsTruncated": True, "NextContinuationToken": "a"}

    monkeypatch.setattr(proxied._store, "send", same_page)
    with pytest.raises(errors.RepositoryError, match="same page again"):
        proxied.list_objects("/f/")


# Which of the responses means what ---------------------------------------------


def test_missing_bucket(keys: None, weed: seaweedfs.SeaweedFS) -> None:
    backend = S3(weed.url, "missing")
    with pytest.raises(errors.RepositoryNotFoundError, match="no such bucket"):
        backend.read_object("/a", 100)
    backend.open()
    with pytest.raises(errors.RepositoryNotFoundError, match="no such bucket"):
        backend._exists("/a")


def test_invalid_bucket(keys: None, weed: seaweedfs.SeaweedFS) -> None:
    backend = S3(weed.url, "not a bucket")
    with pytest.raises(errors.RepositoryError, match="Invalid bucket name"):
        backend.read_object("/a", 100)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (403, "AccessDenied", errors.RepositoryError, "access is denied"),
        (403, "InvalidAccessKeyId", errors.RepositoryError, "does not accept the cred"),
        (403, "RequestTimeTooSkewed", errors.RepositoryError, "clock of this machine"),
        (401, "Unauthorized", errors.RepositoryError, "401 Unauthorized"),
        (404, "NotFound", errors.RepositoryError, "404 NotFound"),
        (400, "Strange", errors.RepositoryError, "400 Strange"),
        (418, "<x>", errors.RepositoryError, "418 without a reason"),
        (503, "SlowDown", errors.RepositoryUnreachableError, "responded with 503"),
        (
            500,
            "InternalError",
            errors.RepositoryUnreachableError,
            "server responded with 500",
        ),
        (502, "", errors.RepositoryUnreachableError, "502"),
    ],
)
def test_only_absent_means_absent(
    proxied: S3,
    proxy: Proxy,
    status: int,
    code: str,
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "BUDGET", 0.1)
    proxy.fault = faults.s3_error(status, code)
    for call in (
        lambda: proxied.read_object("/a", 100),
        lambda: proxied.open_object("/a").__enter__(),
        lambda: proxied.list_objects("/f/"),
        lambda: proxied.write_object("/a", [b"x"]),
        lambda: proxied.create_object("/a", b"x"),
        lambda: proxied.replace_object("/a", b"x", "etag"),
        lambda: proxied.delete_object("/a", ANY),
    ):
        before = len(proxy.requests)
        with pytest.raises(errors.RepositoryError, match=message) as info:
            call()
        # After some answers it is open what happened, or what is there
        uncertain = (errors.WriteUncertainError, HiddenError)
        assert type(info.value) in (error, *uncertain)
        assert isinstance(info.value, HiddenError) <= (code == "AccessDenied")
        if error is errors.RepositoryError:
            # What is permanent is not tried again
            # Where the store is put to the test, it is tidied up as well
            assert len(proxy.requests) <= before + 2


def test_a_web_page_is_not_an_answer(proxied: S3, proxy: Proxy) -> None:
    proxy.fault = faults.status(404, b"<html>Not found</html>")
    with pytest.raises(errors.RepositoryError):
        proxied.read_object("/a", 100)
    proxy.fault = faults.status(404)
    with pytest.raises(errors.RepositoryError):
        proxied.read_object("/a", 100)
    proxy.fault = faults.status(200, b"<html>Log in", Content_Type="text/html")
    with pytest.raises(errors.RepositoryError):
        proxied.list_objects("/f/")


def test_a_host_that_comes_back_is_waited_for(
    proxied: S3, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied.write_object("/a", [b"x"])
    monkeypatch.setattr(transfer, "BUDGET", 10)
    left = [12]
    original = s3_client.client

    def client(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] > 0:
            raise transfer.RequestError(transfer.Kind.NOT_REACHED, "down.")
        return original(*args, **kwargs)

    monkeypatch.setattr(s3_client, "client", client)
    stored = proxied.read_object("/a", 100)
    assert stored is not None


# Bursts of failures -----------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_a_request_that_came_too_slowly_is_sent_again(
    proxied: S3, proxy: Proxy
) -> None:
    proxied.write_object("/a", [b"x"])
    proxy.fault = faults.first(2, faults.s3_error(400, "RequestTimeout"))
    assert proxied.list_objects("/") == ["/a"]


@pytest.mark.usefixtures("patient")
def test_the_server_says_how_long_to_wait(proxied: S3, proxy: Proxy) -> None:
    proxied.write_object("/a", [b"x"])
    proxy.fault = faults.first(1, faults.s3_error(503, "SlowDown", Retry_After="1"))
    start = time.monotonic()
    proxied.read_object("/a", 100)
    assert time.monotonic() - start >= 1


def test_a_server_that_asks_for_too_much_patience_is_given_up(
    proxied: S3, proxy: Proxy
) -> None:
    proxy.fault = faults.s3_error(503, "SlowDown", Retry_After="3600")
    with pytest.raises(errors.RepositoryUnreachableError, match="SlowDown"):
        proxied.read_object("/a", 100)
    assert len(proxy.requests) == 1


# Ranges -----------------------------------------------------------------------


@pytest.fixture
def large(proxied: S3) -> str:
    proxied.write_object("/large", [LARGE])
    return "/large"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("etag", ['"other"', None])
def test_a_range_of_another_object_is_not_taken(
    proxied: S3, proxy: Proxy, large: str, etag: str | None
) -> None:
    with proxied.open_object(large) as reader:
        assert reader is not None
        proxy.fault = faults.first(3, faults.change(ETag=etag))
        assert reader.read(1000, 2 * MIB) == LARGE[1000 : 1000 + 2 * MIB]


def test_what_arrived_is_not_fetched_again(
    proxied: S3, proxy: Proxy, large: str
) -> None:
    with proxied.open_object(large) as reader:
        assert reader is not None
        proxy.fault = faults.first(1, faults.change(cut_after=MIB))
        before = len(proxy.requests)
        assert reader.read(0, 2 * MIB) == LARGE[: 2 * MIB]
    ranges = [request.headers["range"] for request in proxy.requests[before:]]
    assert ranges == [f"bytes=0-{2 * MIB - 1}", f"bytes={MIB}-{2 * MIB - 1}"]


def test_what_is_read_in_order_is_asked_for_once(
    proxied: S3, proxy: Proxy, large: str
) -> None:
    step = MIB // 4

    def read(ranges: Ranges, start: int) -> None:
        data = bytearray(step)
        ranges.readinto(start, memoryview(data))
        assert data == LARGE[start : start + step]

    with proxied.open_object(large) as reader:
        assert reader is not None
        with proxy.counting() as requests, reader.in_order(0, 2 * MIB) as ranges:
            for start in range(0, 2 * MIB, step):
                read(ranges, start)
        assert len(requests) == 1
        # Once more from where it was cut, and from where somebody goes on
        proxy.fault = faults.first(1, faults.change(cut_after=step + 1))
        with proxy.counting() as requests, reader.in_order(0, 2 * MIB) as ranges:
            for start in (0, step, 2 * step, 0, step, 6 * step):
                read(ranges, start)
        assert len(requests) == 4
        # Nothing that nobody reads, and nothing that is there
        with proxy.counting() as requests, reader.in_order(0, 3 * MIB) as ranges:
            read(ranges, 3 * MIB - step)
        assert requests == []


def test_a_range_that_comes_byte_by_byte_is_asked_for_again(
    proxied: S3, proxy: Proxy, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "STANDSTILL", 0.2)
    with proxied.open_object(large) as reader:
        assert reader is not None
        proxy.fault = faults.first(1, faults.change(trickle=0.02))
        assert reader.read(0, MIB) == LARGE[:MIB]


def test_what_is_always_cut_off_is_given_up(
    proxied: S3, proxy: Proxy, large: str, hasty: None
) -> None:
    # To receive the first half again and again is no progress
    proxy.fault = faults.change(cut_after=TAIL // 2)
    start = time.monotonic()
    with (
        pytest.raises(errors.RepositoryUnreachableError, match="ended early"),
        proxied.open_object(large),
    ):
        pass
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_server_that_gives_no_ranges(
    proxied: S3, proxy: Proxy, large: str, is_whole: bool
) -> None:
    with proxied.open_object(large) as reader:
        assert reader is not None
        proxy.fault = whole if is_whole else faults.change(status=200)
        with pytest.raises(errors.RepositoryError, match="not support range"):
            reader.read(0, MIB)


def whole(request: Request, _: Forward) -> Response:
    """Answer to the request if it had no range."""
    return Response(
        200,
        [("Content-Length", str(len(LARGE))), ("ETag", '"1"')],
        LARGE,
    )


def test_opening_without_ranges(proxied: S3, proxy: Proxy, large: str) -> None:
    proxy.fault = whole
    with (
        pytest.raises(errors.RepositoryError, match="not support range"),
        proxied.open_object(large),
    ):
        pass


def test_small_objects_open_without_ranges(proxied: S3, proxy: Proxy) -> None:
    proxied.write_object("/a", [b"0123456789"])
    length = [("Content-Length", "10"), ("ETag", '"1"')]
    proxy.fault = lambda _, __: Response(200, length, b"0123456789")
    with proxied.open_object("/a") as reader:
        assert reader is not None
        assert (reader.size, reader.tail) == (10, b"0123456789")


@pytest.mark.parametrize("value", ["bytes 0-9/100", "bytes 0-9/9", "", "bytes */10"])
def test_opening_with_a_wrong_range(proxied: S3, proxy: Proxy, value: str) -> None:
    proxied.write_object("/a", [b"0123456789"])
    proxy.fault = faults.change(Content_Range=value)
    with (
        pytest.raises(errors.RepositoryError, match="other bytes than requested"),
        proxied.open_object("/a"),
    ):
        pass


def test_an_answer_without_length_or_checksum(proxied: S3, proxy: Proxy) -> None:
    proxied.write_object("/a", [b"0123456789"])
    proxy.fault = faults.change(Content_Length=None, x_amz_meta_checksum=None)
    with pytest.raises(errors.RepositoryError, match="does not send the size"):
        proxied.read_object("/a", 100)


def test_a_store_that_wants_exact_ranges(proxied: S3, proxy: Proxy) -> None:
    proxied.write_object("/a", [b"0123456789"])
    refusal = faults.s3_error(416, "InvalidRange")
    proxy.fault = faults.first(1, refusal, when=lambda r: "range" in r.headers)
    with proxied.open_object("/a") as reader:
        assert reader is not None
        assert reader.tail == b"0123456789"


# Damage -----------------------------------------------------------------------


def test_objects_of_other_tools_have_no_checksum(
    backend: S3, weed: seaweedfs.SeaweedFS, bucket: str
) -> None:
    weed.client().put_object(
        Bucket=bucket, Key="a", Body=b"x", Metadata={"checksum": "something else"}
    )
    stored = backend.read_object("/a", 100)
    assert stored is not None
    assert stored.data == b"x"


# Processes and threads --------------------------------------------------------


# Interface of audbackend ------------------------------------------------------


def test_a_checksum_that_was_not_stored(
    backend: S3, weed: seaweedfs.SeaweedFS, bucket: str
) -> None:
    weed.client().put_object(Bucket=bucket, Key="a", Body=b"x")
    md5 = hashlib.md5(b"x", usedforsecurity=False).hexdigest()
    assert backend.checksum("/a") == md5


def test_url(keys: None) -> None:
    assert S3("http://localhost:9000", "b").object_url("/f/b") == (
        "http://localhost:9000/b/f/b"
    )
    assert S3("s3.eu-north-1.amazonaws.com", "b").object_url("/f/b") == (
        "https://b.s3.eu-north-1.amazonaws.com/f/b"
    )


# What is left of the responses -------------------------------------------------


def test_regions_of_new_buckets(
    keys: None, home: Path, weed: seaweedfs.SeaweedFS, proxy: Proxy
) -> None:
    config = home / ".config" / "audbackend" / "minio.cfg"
    config.parent.mkdir(parents=True)
    config.write_text(f"[{proxy.host}]\nregion = eu-north-1\n", encoding="utf-8")
    proxy.fault = faults.status(200)
    S3.create(proxy.url, "new")
    assert b"<LocationConstraint>eu-north-1<" in proxy.requests[0].body


def test_responses_that_lack_something(proxied: S3, proxy: Proxy) -> None:
    proxied.write_object("/a", [b"x"])
    proxy.fault = faults.first(1, faults.status(200))
    assert proxied.list_objects("/") == ["/a"]
    proxy.fault = faults.first(1, faults.status(200))
    assert proxied.checksum("/a")
    proxy.fault = faults.status(200, Content_Type="application/xml")
    with pytest.raises(errors.RepositoryUnreachableError, match="incomplete"):
        proxied.list_objects("/")
