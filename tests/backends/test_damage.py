"""What arrives damaged is fetched again, and an error says where that happens."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
import itertools
from pathlib import Path

import pytest

import audmodel
from audmodel import errors
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
CONTENT = hashlib.shake_128(b"content").digest(9 * MIB)
# Which bit flips in the answers to a request, one after the other
Bits = Callable[[int], int | None]


def flipping(bits: Bits, part: str) -> Fault:
    """Answers about a part of the path are damaged each in its way."""
    seen: dict[tuple[str, str], itertools.count[int]] = {}

    def apply(request: Request, forward: Forward) -> Response:
        response = forward()
        key = (request.path, request.headers.get("range", ""))
        if request.method == "GET" and part in request.path and response.status < 300:
            bit = bits(next(seen.setdefault(key, itertools.count())))
            if bit is not None:
                response.body = faults.flip(response.body, bit)
        return response

    return apply


def a_few_times(number: int) -> int | None:
    return 800 + 8 * number if number < 3 else None


def the_same(number: int) -> int:
    return 800


def others(number: int) -> int:
    return 800 + 8 * number


@pytest.fixture
def uid(storage: Storage, proxy: Proxy, tmp_path: Path) -> str:
    backend = "s3" if storage.path == "" else "artifactory"
    audmodel.config.REPOSITORIES = [
        audmodel.Repository(storage.name, storage.url(proxy.host), backend)
    ]
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(CONTENT)
    (root / "notes").write_text("small")
    return audmodel.publish(str(root), "torch", {}, "1.0.0", alias="best")


def load(uid: str) -> bytes:
    return (Path(audmodel.load(uid, num_workers=2)) / "weights").read_bytes()


def read(uid: str) -> bytes:
    with audmodel.open(uid, "weights", num_workers=2) as file:
        return bytes(file.read())


@pytest.mark.parametrize("call", [load, read])
def test_damage_that_passes(
    uid: str, proxy: Proxy, call: Callable[[str], bytes]
) -> None:
    proxy.fault = flipping(a_few_times, ".zip")
    before = proxy.connections
    assert call(uid) == CONTENT
    # A connection on which something was damaged is not used again
    assert proxy.connections >= before + 3


@pytest.mark.sample(3)
@pytest.mark.parametrize("call", [load, read])
@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (the_same, "fetched 5 times, with the same damage: .* in the storage"),
        (others, "fetched 5 times, with other damage each time: .* in transit"),
    ],
)
def test_damage_that_lasts(
    uid: str, proxy: Proxy, call: Callable[[str], bytes], bits: Bits, message: str
) -> None:
    proxy.fault = flipping(bits, ".zip")
    with pytest.raises(errors.ArchiveError, match=message):
        call(uid)


def test_records(uid: str, proxy: Proxy) -> None:
    proxy.fault = flipping(a_few_times, "alias")
    assert audmodel.resolve_alias("best") == uid
    for bits, message in (
        (the_same, "5 times, with the same"),
        (others, "5 times, with other"),
    ):
        proxy.fault = flipping(bits, "alias")
        with pytest.raises(errors.RepositoryError, match=message):
            audmodel.resolve_alias("best")
