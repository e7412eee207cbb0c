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
from tests.backends.proxy import Answer
from tests.backends.proxy import Fault
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.test_remote import Place
from tests.backends.test_remote import place as place
from tests.backends.test_remote import proxy as proxy


MIB = 1024 * 1024
CONTENT = hashlib.shake_128(b"content").digest(3 * MIB)


def weaken(answer: Answer) -> None:
    etag = answer.header("ETag")
    if etag is not None and not etag.startswith("W/"):
        answer.replace("ETag", f"W/{etag}")


def omit_length(answer: Answer) -> None:
    answer.replace("Content-Length", None)


def chunk(answer: Answer) -> None:
    """Send it in chunks, as some proxies do with whatever they forward."""
    body = answer.body
    pieces = [body[start : start + 100_000] for start in range(0, len(body), 100_000)]
    answer.body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in [*pieces, b""])
    answer.replace("Content-Length", None)
    answer.replace("Transfer-Encoding", "chunked")


def omit_checksums(answer: Answer) -> None:
    for name, _ in list(answer.headers):
        if name.lower().startswith(("x-checksum-", "x-amz-meta-")):
            answer.replace(name, None)
    answer.replace("X-JFrog-Version", "7")


def rewritten(*changes: Callable[[Answer], None], status: int = 0) -> Fault:
    def apply(request: Request, forward: Forward) -> Answer:
        answer = forward()
        # A busy server refuses some requests, which are repeated
        is_right = answer.status in ((status,) if status else (200, 206))
        if request.method == "GET" and is_right:
            for change in changes:
                change(answer)
        return answer

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
    place: Place, proxy: Proxy, tmp_path: Path, model_folder: Path, name: str
) -> None:
    (model_folder / "weights").write_bytes(CONTENT)
    backend = "s3" if place.path == "" else "artifactory"
    repository = audmodel.Repository(place.name, place.url(proxy.host), backend)
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
    place: Place, proxy: Proxy, size: int, change: Callable[[Answer], None]
) -> None:
    with place.backend(proxy.host) as backend:
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
    place: Place, proxy: Proxy
) -> None:
    proxy.fault = rewritten(weaken)
    with place.backend(proxy.host) as backend:
        backend.write_object("/a", [CONTENT])
        with backend.open_object("/a") as reader:
            assert reader is not None
            backend.write_object("/a", [CONTENT[::-1]])
            with pytest.raises(errors.RepositoryError, match="was replaced while"):
                reader.read(0, MIB)


def halve(answer: Answer) -> None:
    answer.body = answer.body[: len(answer.body) // 2]


@pytest.mark.sample(1)
@pytest.mark.parametrize("changes", [[omit_length], [omit_length, omit_checksums]])
def test_half_of_an_object_without_length_is_not_taken(
    place: Place, proxy: Proxy, changes: list[Callable[[Answer], None]]
) -> None:
    with place.backend(proxy.host) as backend:
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
    place: Place, proxy: Proxy, content_range: str | None
) -> None:
    def part(answer: Answer) -> None:
        halve(answer)
        omit_checksums(answer)
        answer.status = 206
        answer.replace("Content-Length", str(len(answer.body)))
        answer.replace("Content-Range", content_range)

    with place.backend(proxy.host) as backend:
        backend.write_object("/a", [b"0123456789"])
        proxy.fault = rewritten(part)
        with pytest.raises(errors.RepositoryError, match="other bytes"):
            backend.read_object("/a", 100)
        proxy.fault = faults.change(status=206, Content_Range="bytes 0-9/10")
        stored = backend.read_object("/a", 100)
        assert stored is not None
        assert stored.data == b"0123456789"
