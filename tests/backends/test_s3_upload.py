"""Large objects are stored in parts while they are made, or not at all."""

from __future__ import annotations

import base64
from collections.abc import Iterator
import hashlib
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from audmodel import errors
from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import CopyableChunk
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.http import transfer
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from audmodel.core.backend.s3 import parts as s3_parts
from audmodel.core.backend.s3 import responses as s3_responses
from audmodel.core.backend.s3 import upload as s3_upload
from audmodel.core.backend.s3.backend import S3
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.conftest import ROOT


MIB = 1024 * 1024
PART = s3_parts.PART_SIZE
NOISE = hashlib.shake_128(b"noise").digest(MIB)


@pytest.fixture
def backend(
    keys: None,
    hasty: None,
    proxy: Proxy,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[S3]:
    # Storing a part takes its time on a busy machine
    monkeypatch.setattr(s3_endpoint, "READ_TIMEOUT", 20.0)
    monkeypatch.setattr(transfer, "BUDGET", 20.0)
    with S3(proxy.url, bucket) as backend:
        yield backend


def chunks(size: int, step: int = MIB) -> Iterator[bytes]:
    """Chunks of a size that has nothing to do with that of parts."""
    for start in range(0, size, step):
        yield NOISE[: min(step, size - start)]


def content(size: int) -> bytes:
    return b"".join(chunks(size))


def source(backend: S3, path: str) -> CopySource:
    """An object to copy from."""
    with backend.open_object(path) as reader:
        assert reader is not None
        return CopySource(path, reader.etag, reader.size, bytes(reader.tail))


def uploads(weed: seaweedfs.SeaweedFS, bucket: str) -> list[Any]:
    """Uploads of which parts are kept."""
    found: list[Any] = (
        weed.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    )
    return found


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("size", "methods"),
    [
        (0, ["PUT"]),
        (1, ["PUT"]),
        (PART - 1, ["PUT"]),
        (PART, ["POST", "PUT", "POST", "PUT"]),
        (PART + 1, ["POST", "PUT", "PUT", "POST", "PUT"]),
        (3 * PART, ["POST", "PUT", "PUT", "PUT", "POST", "PUT"]),
    ],
)
@pytest.mark.parametrize("num_workers", [1, 4])
def test_requests(
    backend: S3, proxy: Proxy, size: int, methods: list[str], num_workers: int
) -> None:
    backend.write_object("/a.zip", chunks(size), num_workers=num_workers)
    assert [request.method for request in proxy.requests] == methods
    with backend.open_object("/a.zip") as reader:
        assert reader is not None
        assert reader.read(0, reader.size) == content(size)


@pytest.mark.parametrize("step", [1000, 3 * MIB, 20 * MIB])
def test_chunks_of_any_size_and_kind(backend: S3, step: int) -> None:
    size = 20 * MIB if step > 1000 else PART + 5
    data = content(size)

    def pieces() -> Iterator[bytearray | memoryview]:
        for start in range(0, size, step):
            yield bytearray(data[start : start + step])
            yield memoryview(b"")

    backend.write_object("/a", pieces())
    with backend.open_object("/a") as reader:
        assert reader is not None
        assert reader.read(0, reader.size) == data


def test_a_chunk_may_be_used_again_by_its_maker(backend: S3) -> None:
    def reused() -> Iterator[bytearray]:
        buffer = bytearray(MIB)
        for number in range(9):
            buffer[:] = bytes([number]) * MIB
            yield buffer

    backend.write_object("/a", reused())
    with backend.open_object("/a") as reader:
        assert reader is not None
        assert [reader.read(n * MIB, 1)[0] for n in range(9)] == list(range(9))


def test_parts_grow_so_that_objects_of_any_size_fit() -> None:
    sizes = [s3_parts.part_size(number) for number in range(10_000)]
    assert sizes == sorted(sizes)
    # 20 GB in parts of one size, and more than a store takes at all
    assert sizes[2499] == sizes[0] == PART
    assert sum(sizes) > 1.5e12
    assert max(sizes) <= 5 * 1024 * MIB


def test_metadata(backend: S3, weed: seaweedfs.SeaweedFS, bucket: str) -> None:
    backend.write_object("/a.zip", chunks(PART + 1))
    response = weed.client().head_object(Bucket=bucket, Key="a.zip")
    md5 = hashlib.md5(content(PART + 1), usedforsecurity=False).hexdigest()
    assert response["Metadata"]["checksum"] == md5
    assert set(response["Metadata"]) == {"checksum", "owner"}
    assert response["ContentType"] == "application/zip"


def test_a_large_object_has_no_checksum(
    backend: S3,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy of it would take long."""
    monkeypatch.setattr(s3_upload, "AMEND_SIZE", 2 * PART)
    for size, has_checksum in ((2 * PART, True), (2 * PART + 1, False)):
        backend.write_object("/a.zip", chunks(size))
        response = weed.client().head_object(Bucket=bucket, Key="a.zip")
        assert response["ContentLength"] == size
        assert ("checksum" in response["Metadata"]) == has_checksum


def test_a_copied_part_behind_a_small_one(backend: S3) -> None:
    old = content(3 * PART)
    backend.write_object("/old", [old])
    new = b"x" * (PART - MIB)
    pieces: list[Chunk] = [new]
    pieces += [CopyableChunk(old[k : k + MIB], k) for k in range(0, len(old), MIB)]
    assert backend.compose_object("/new", pieces, source(backend, "/old"))
    with backend.open_object("/new") as reader:
        assert reader is not None
        assert reader.read(0, reader.size) == new + old


def test_the_server_copies_an_object(backend: S3, proxy: Proxy) -> None:
    old = content(2 * PART + 1)
    backend.write_object("/old", [old])
    first = len(proxy.requests)
    assert backend.copy_object("/new", source(backend, "/old"), backend)
    assert not [
        request for request in proxy.requests[first:] if len(request.body) > MIB
    ]
    with backend.open_object("/new") as reader:
        assert reader is not None
        assert reader.read(0, reader.size) == old


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_bucket_with_versions_keeps_the_bytes_once(
    keys: None, hasty: None, proxy: Proxy, weed: seaweedfs.SeaweedFS, is_lost: bool
) -> None:
    """The copy that adds a checksum would leave the object as an earlier version."""
    client, bucket = weed.client(), weed.bucket()
    client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    if is_lost:
        proxy.fault = faults.first(
            1,
            faults.lose_response,
            when=lambda request: (
                request.method == "POST" and "uploadId" in request.path
            ),
        )
    with S3(proxy.url, bucket) as backend:
        backend.write_object("/a.zip", chunks(PART + 1))
        with backend.open_object("/a.zip") as reader:
            assert reader is not None
            assert reader.read(0, reader.size) == content(PART + 1)
    [version] = client.list_object_versions(Bucket=bucket)["Versions"]
    assert version["Size"] == PART + 1


def test_a_store_without_copies_lacks_the_checksum(
    backend: S3, proxy: Proxy, weed: seaweedfs.SeaweedFS, bucket: str
) -> None:
    proxy.fault = faults.first(
        1,
        faults.s3_error(501, "NotImplemented"),
        when=lambda request: "x-amz-copy-source" in request.headers,
    )
    backend.write_object("/a.zip", chunks(PART + 1))
    response = weed.client().head_object(Bucket=bucket, Key="a.zip")
    assert "checksum" not in response["Metadata"]
    md5 = hashlib.md5(content(PART + 1), usedforsecurity=False).hexdigest()
    assert backend.checksum("/a.zip") == md5


def test_parts_are_sent_while_chunks_are_made(backend: S3, proxy: Proxy) -> None:
    def slow() -> Iterator[bytes]:
        yield from chunks(2 * PART)
        deadline = time.monotonic() + 10
        while len(proxy.requests) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield b"last"

    backend.write_object("/a", slow(), num_workers=2)
    assert len(proxy.requests) == 6


@pytest.mark.thorough
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_memory_is_bounded(backend: S3, proxy: Proxy, num_workers: int) -> None:
    made = 0
    done = 0
    most = 0
    lock = threading.Lock()

    def count(request: Request, forward: Forward) -> Response:
        nonlocal done
        time.sleep(0.02)
        response = forward()
        if "partNumber" in request.path:
            with lock:
                done += 1
        return response

    def counted() -> Iterator[bytes]:
        nonlocal made, most
        for _ in range(8):
            yield from chunks(PART)
            made += 1
            most = max(most, made - done)

    proxy.fault = count
    backend.write_object("/a", counted(), num_workers=num_workers)
    assert most <= num_workers + 2


# Trouble ----------------------------------------------------------------------


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "fault",
    [
        faults.s3_error(503, "SlowDown"),
        faults.s3_error(500, "InternalError"),
        faults.break_before,
        faults.lose_response,
    ],
)
@pytest.mark.parametrize("position", range(4))
def test_passing_trouble(
    backend: S3, proxy: Proxy, fault: faults.Fault, position: int
) -> None:
    hits = [position]

    def once(request: Request, forward: Forward) -> Response | None:
        hits[0] -= 1
        return fault(request, forward) if hits[0] == -1 else forward()

    proxy.fault = once
    backend.write_object("/a", chunks(PART + 1))
    proxy.fault = None
    with backend.open_object("/a") as reader:
        assert reader is not None
        assert reader.read(0, reader.size) == content(PART + 1)


@pytest.mark.sample(5)
@pytest.mark.parametrize("code", sorted(s3_responses.BUSY))
def test_what_passes_is_recognised_by_its_code(
    backend: S3, proxy: Proxy, code: str
) -> None:
    proxy.fault = faults.first(1, faults.s3_error(400, code))
    with proxy.counting() as requests:
        backend.write_object("/a", [b"x"])
    assert len(requests) == 2


def test_a_part_that_was_damaged_on_its_way(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(
        1,
        faults.s3_error(400, "XAmzContentSHA256Mismatch"),
        when=lambda request: "partNumber=2" in request.path,
    )
    backend.write_object("/a", chunks(PART + 1))
    with backend.open_object("/a") as reader:
        assert reader is not None
        assert reader.read(0, reader.size) == content(PART + 1)


def with_object_lock(request: Request, forward: Forward) -> Response | None:
    """A bucket that keeps what is stored wants to be sure about it."""
    # The body of a copy is in the storage
    if request.method == "PUT" and "x-amz-copy-source" not in request.headers:
        digest = hashlib.md5(request.body).digest()
        found = request.headers.get("content-md5")
        if found is None:
            return faults.s3_error(400, "InvalidRequest")(request, forward)
        if found != base64.b64encode(digest).decode():
            return faults.s3_error(400, "BadDigest")(request, forward)
    return forward()


@pytest.mark.parametrize("size", [1, PART + 1])
def test_a_bucket_with_object_lock(backend: S3, proxy: Proxy, size: int) -> None:
    proxy.fault = with_object_lock
    backend.write_object("/a", chunks(size), num_workers=2)
    assert backend.create_object("/b", b"b")
    stored = backend.read_object("/b", 10)
    assert stored is not None
    assert backend.replace_object("/b", b"c", stored.etag)


@pytest.mark.parametrize(
    ("lines", "headers"),
    [
        ("server_side_encryption = AES256", {"": "AES256"}),
        ("sse_kms_key_id = key", {"": "aws:kms", "-aws-kms-key-id": "key"}),
        (
            "server_side_encryption = aws:kms:dsse\nsse_kms_key_id = key",
            {"": "aws:kms:dsse", "-aws-kms-key-id": "key"},
        ),
    ],
)
def test_a_bucket_that_demands_encryption(
    keys: None,
    hasty: None,
    proxy: Proxy,
    bucket: str,
    home: Path,
    lines: str,
    headers: dict[str, str],
) -> None:
    config = home / ".config" / "audbackend" / "minio.cfg"
    config.parent.mkdir(parents=True)
    config.write_text(f"[{proxy.host}]\n{lines}\n", encoding="utf-8")
    prefix = "x-amz-server-side-encryption"

    def demand(request: Request, forward: Forward) -> Response | None:
        found = {
            name.removeprefix(prefix): value
            for name, value in request.headers.items()
            if name.startswith(prefix)
        }
        stores = request.method == "PUT" and "partNumber" not in request.path
        if stores or request.path.endswith("?uploads"):
            if found != headers:
                return faults.s3_error(403, "AccessDenied")(request, forward)
            # The server of the tests has no keys
            for name in headers:
                request.headers.pop(prefix + name)
            return forward_unsigned(request)
        # Nothing else may have them
        assert not found
        return forward()

    def forward_unsigned(request: Request) -> Response | None:
        stored.append(request.path)
        return faults.status(
            200,
            b"<R><UploadId>1</UploadId><CopyObjectResult><ETag>1</ETag>"
            b"</CopyObjectResult></R>",
            ETag='"1"',
            # Its conditions are not put to the test
            Server="SeaweedFS 30GB 4.48",
        )(request, lambda: Response(200, []))

    stored: list[str] = []
    proxy.fault = demand
    with S3(proxy.url, bucket) as backend:
        backend.write_object("/a", [b"x"])
        assert backend.create_object("/b", b"b")
        assert backend.replace_object("/b", b"b", '"1"')
        assert len(stored) == 3
        # The server does not know the upload that it did not begin
        with pytest.raises(errors.RepositoryError):
            backend.write_object("/c", chunks(PART))
        assert stored[3].endswith("/c?uploads")


def test_encryption_that_cannot_be_sent(home: Path) -> None:
    config = home / ".config" / "audbackend" / "minio.cfg"
    config.parent.mkdir(parents=True)
    config.write_text("[a]\nsse_kms_key_id = \u20ac\n", encoding="utf-8")
    with pytest.raises(errors.ConfigurationError, match="sse_kms_key_id"):
        s3_endpoint.endpoint("a", "b")


def test_completion_that_was_done_twice(backend: S3, proxy: Proxy) -> None:
    def is_completion(request: Request) -> bool:
        return request.method == "POST" and "uploadId" in request.path

    def done_and_forgotten(request: Request, forward: Forward) -> Response | None:
        forward()
        return faults.s3_error(404, "NoSuchUpload")(request, forward)

    proxy.fault = faults.first(1, done_and_forgotten, when=is_completion)
    backend.write_object("/a", chunks(PART))
    proxy.fault = faults.first(
        1, faults.s3_error(409, "OperationAborted"), when=is_completion
    )
    backend.write_object("/a", chunks(PART))


def test_an_upload_that_somebody_aborted(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.first(
        1,
        faults.s3_error(404, "NoSuchUpload"),
        when=lambda request: request.method == "POST" and "uploadId" in request.path,
    )
    with pytest.raises(errors.RepositoryError, match="upload was aborted"):
        backend.write_object("/a", chunks(PART))
    assert backend.read_object("/a", 1) is None


class BrokenError(Exception):
    pass


@pytest.mark.sample(2)
@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt, SystemExit])
def test_making_chunks_fails(
    backend: S3,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    num_workers: int,
    error: type[BaseException],
) -> None:
    def broken() -> Iterator[bytes]:
        yield from chunks(3 * PART)
        raise error

    with pytest.raises(error):
        backend.write_object("/a", broken(), num_workers=num_workers)
    assert backend.list_objects("/") == []
    assert uploads(weed, bucket) == []
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("audmodel")]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_storing_a_part_fails(
    backend: S3, proxy: Proxy, weed: seaweedfs.SeaweedFS, bucket: str, num_workers: int
) -> None:
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield NOISE
        finally:
            closed.set()

    proxy.fault = faults.first(
        1000,
        faults.s3_error(403, "AccessDenied"),
        when=lambda request: "partNumber=2" in request.path,
    )
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        backend.write_object("/a", endless(), num_workers=num_workers)
    proxy.fault = None
    assert closed.is_set()
    assert backend.list_objects("/") == []
    assert uploads(weed, bucket) == []


def test_starting_fails(backend: S3, proxy: Proxy) -> None:
    proxy.fault = faults.s3_error(403, "AccessDenied")
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        backend.write_object("/a", chunks(PART))
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("code", "warns"), [("NoSuchUpload", False), ("AccessDenied", True)]
)
def test_cleaning_up_fails(
    backend: S3,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    code: str,
    warns: bool,
) -> None:
    def broken() -> Iterator[bytes]:
        yield from chunks(PART)
        raise BrokenError

    proxy.fault = faults.first(
        1, faults.s3_error(403, code), when=lambda r: r.method == "DELETE"
    )
    with pytest.raises(BrokenError):
        backend.write_object("/a", broken())
    assert ("its parts remain" in caplog.text) == warns


SCRIPT = """
import faulthandler, signal, sys, time
from audmodel.core.backend.s3.backend import S3
from audmodel.core.process.termination import terminable

def chunks():
    yield bytes(20 << 20)
    print("ready", flush=True)
    # A signal that comes right before it does not end a sleep
    for _ in range(600):
        time.sleep(0.1)

# Say where it hangs
faulthandler.dump_traceback_later(25, exit=True)
with S3(sys.argv[1], sys.argv[2]) as backend:
    try:
        with terminable():
            backend.write_object("/a", chunks(), num_workers=int(sys.argv[3]))
    finally:
        print("left", flush=True)
"""


@pytest.mark.sample(1)
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_asked_to_end_leaves_no_parts(
    keys: None,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    num_workers: int,
    number: signal.Signals,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, weed.url, bucket, str(num_workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert uploads(weed, bucket)
        start = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == -number, err
    assert time.monotonic() - start < 5
    if number is signal.SIGINT:
        assert out == "left\n"
    assert uploads(weed, bucket) == []
    assert weed.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_no_archive_is_written_to_disk(
    keys: None,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import audmodel

    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(content(20 * MIB))
    opened: list[str] = []
    original = os.open

    def watched(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            opened.append(str(path))
        return original(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", watched)
    files_before = set(tmp_path.rglob("*"))
    audmodel.config.REPOSITORIES = [audmodel.Repository(bucket, weed.url, "s3")]
    audmodel.publish(str(model), "torch", {}, "1.0.0", num_workers=2)
    assert opened == []
    assert set(tmp_path.rglob("*")) == files_before


@pytest.mark.parametrize("size", [1, PART])
def test_the_last_word_before_an_object_becomes_visible(
    backend: S3, weed: seaweedfs.SeaweedFS, bucket: str, size: int
) -> None:
    def refuse() -> None:
        assert backend.read_object("/a", 1) is None
        raise BrokenError

    with pytest.raises(BrokenError):
        backend.write_object("/a", chunks(size), before_commit=refuse)
    assert backend.list_objects("/") == []
    assert uploads(weed, bucket) == []


def copies(request: Request) -> bool:
    return "x-amz-copy-source" in request.headers


def test_object_that_is_replaced_before_it_gets_its_checksum(
    backend: S3, proxy: Proxy, weed: seaweedfs.SeaweedFS, bucket: str
) -> None:
    def replace(_: Request, forward: Forward) -> Response:
        weed.client().put_object(Bucket=bucket, Key="a.zip", Body=b"of another")
        return forward()

    proxy.fault = faults.first(1, replace, when=copies)
    backend.write_object("/a.zip", chunks(PART + 1))
    response = weed.client().get_object(Bucket=bucket, Key="a.zip")
    assert response["Body"].read() == b"of another"
    assert "checksum" not in response["Metadata"]


@pytest.mark.parametrize("is_alone", [False, True])
def test_uploads_of_others_after_an_answer_was_lost(
    backend: S3,
    proxy: Proxy,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    tmp_path: Path,
    is_alone: bool,
) -> None:
    """They go away only if nobody else can be at work."""
    client = weed.client()
    theirs = client.create_multipart_upload(Bucket=bucket, Key="a.zip")["UploadId"]
    other = client.create_multipart_upload(Bucket=bucket, Key="a.zip2")["UploadId"]
    proxy.fault = faults.first(
        1, faults.lose_response, when=lambda request: request.path.endswith("?uploads")
    )
    if is_alone:
        backend.write_object("/a.zip", chunks(PART))
    else:
        file = tmp_path / "file"
        file.write_bytes(content(PART))
        backend.put_file(str(file), "/a.zip")
    left = {upload["UploadId"] for upload in uploads(weed, bucket)}
    assert other in left
    assert (theirs in left) == (not is_alone)
