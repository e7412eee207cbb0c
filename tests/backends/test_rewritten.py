"""Proxies that rewrite headers do not keep anybody from what is right."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
from pathlib import Path

import pytest

import audmodel
from audmodel import errors
from audmodel.core.backend.reader import TAIL
from tests.backends import proxy as faults
from tests.backends.proxy import Fault
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.backends.test_remote import Storage
from tests.backends.test_remote import proxy as proxy
from tests.backends.test_remote import storage as storage


MIB = 1024 * 1024
CONTENT = hashlib.shake_128(b"content").digest(3 * MIB)


def weaken(response: Response) -> None:
    etag = response.header("ETag")
    if etag is not None and not etag.startswith("W/"):
        response.replace("ETag", f"W/{etag}")


def omit_length(response: Response) -> None:
    response.replace("Content-Length", None)


def chunk(response: Response) -> None:
    """Send it in chunks, as some proxies do with whatever they forward."""
    body = response.body
    pieces = [body[start : start + 100_000] for start in range(0, len(body), 100_000)]
    response.body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in [*pieces, b""])
    response.replace("Content-Length", None)
    response.replace("Transfer-Encoding", "chunked")


def omit_checksums(response: Response) -> None:
    for name, _ in list(response.headers):
        if name.lower().startswith(("x-checksum-", "x-amz-meta-")):
            response.replace(name, None)
    response.replace("X-JFrog-Version", "7")


def rewritten(*changes: Callable[[Response], None], status: int = 0) -> Fault:
    def apply(request: Request, forward: Forward) -> Response:
        response = forward()
        # A busy server refuses some requests, which are repeated
        is_right = response.status in ((status,) if status else (200, 206))
        if request.method == "GET" and is_right:
            for change in changes:
                change(response)
        return response

    return apply


REWRITTEN = {
    "weak etags": rewritten(weaken),
    "weak etags of ranges": rewritten(weaken, status=206),
    "no length": rewritten(omit_length),
    "no length of ranges": rewritten(omit_length, status=206),
    "chunks": rewritten(chunk),
    "chunks, weak etags": rewritten(chunk, weaken),
}


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", REWRITTEN)
def test_a_model(
    storage: Storage, proxy: Proxy, tmp_path: Path, model_folder: Path, name: str
) -> None:
    (model_folder / "weights").write_bytes(CONTENT)
    backend = "s3" if storage.path == "" else "artifactory"
    repository = audmodel.Repository(storage.name, storage.url(proxy.host), backend)
    audmodel.config.REPOSITORIES = [repository]
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")
    proxy.fault = REWRITTEN[name]
    uid = audmodel.publish(
        *(str(model_folder), "torch", {}, "1.0.0"), alias="best", meta={"a": 1}
    )
    audmodel.update_meta(uid, {"b": 2})
    audmodel.set_alias("best", uid)
    folder = Path(audmodel.load("best", num_workers=2))
    assert (folder / "weights").read_bytes() == CONTENT
    assert audmodel.meta(uid) == {"a": 1, "b": 2}


@pytest.mark.sample(8)
@pytest.mark.parametrize("change", [weaken, omit_length, chunk])
@pytest.mark.parametrize("size", [0, 1, 300, TAIL, TAIL + 1])
def test_sizes(
    storage: Storage, proxy: Proxy, size: int, change: Callable[[Response], None]
) -> None:
    with storage.backend(proxy.host) as backend:
        backend.write_object("/a", [CONTENT[:size]])
        proxy.fault = rewritten(change)
        stored = backend.read_object("/a", size)
        assert stored is not None
        assert stored.data == CONTENT[:size]
        if size:
            with pytest.raises(errors.RepositoryError, match=f"allowed are {size - 1}"):
                backend.read_object("/a", size - 1)
            with backend.open_object("/a") as reader:
                assert reader is not None
                assert reader.size == size
                assert reader.read(0, size) == CONTENT[:size]


def test_an_object_with_a_weak_etag_is_replaced_while_it_is_read(
    storage: Storage, proxy: Proxy
) -> None:
    proxy.fault = rewritten(weaken)
    with storage.backend(proxy.host) as backend:
        backend.write_object("/a", [CONTENT])
        with backend.open_object("/a") as reader:
            assert reader is not None
            backend.write_object("/a", [CONTENT[::-1]])
            with pytest.raises(errors.RepositoryError, match="was replaced while"):
                reader.read(0, MIB)


def halve(response: Response) -> None:
    response.body = response.body[: len(response.body) // 2]


@pytest.mark.sample(1)
@pytest.mark.parametrize("changes", [[omit_length], [omit_length, omit_checksums]])
def test_half_of_an_object_without_length_is_not_taken(
    storage: Storage, proxy: Proxy, changes: list[Callable[[Response], None]]
) -> None:
    with storage.backend(proxy.host) as backend:
        backend.write_object("/a", [b"0123456789"])
        proxy.fault = rewritten(halve, *changes)
        with pytest.raises(errors.RepositoryError):
            backend.read_object("/a", 100)
        with pytest.raises(errors.RepositoryError), backend.open_object("/a"):
            pass


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "content_range", ["bytes 0-4/10", "bytes 5-9/10", "bytes 0-4/*", None]
)
def test_a_part_is_not_taken_for_the_whole(
    storage: Storage, proxy: Proxy, content_range: str | None
) -> None:
    def part(response: Response) -> None:
        halve(response)
        omit_checksums(response)
        response.status = 206
        response.replace("Content-Length", str(len(response.body)))
        response.replace("Content-Range", content_range)

    with storage.backend(proxy.host) as backend:
        backend.write_object("/a", [b"0123456789"])
        proxy.fault = rewritten(part)
        with pytest.raises(errors.RepositoryError, match="other bytes"):
            backend.read_object("/a", 100)
        proxy.fault = faults.change(status=206, Content_Range="bytes 0-9/10")
        stored = backend.read_object("/a", 100)
        assert stored is not None
        assert stored.data == b"0123456789"
