"""Whatever happens on the wire, the outcome is right, or a clear error in time."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import itertools
import random
import time

import pytest

from tests.backends import proxy as faults
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.proxy import Fault
from tests.backends.proxy import Forward
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.reliability.remote import OPERATIONS
from tests.reliability.remote import Remote
from tests.reliability.remote import attempt
from tests.reliability.remote import requests_of
from tests.reliability.remote import storage as storage


# Of each family of faults
pytestmark = pytest.mark.sample(1)


MIB = 1024 * 1024


def lengthen(response: Response) -> None:
    response.body += b"more"
    response.replace("Content-Length", str(len(response.body)))


def shorten(response: Response) -> None:
    response.body = response.body[: len(response.body) // 2]
    response.replace("Content-Length", str(len(response.body)))


# Where in an answer something happens
OFFSETS: dict[str, Callable[[int], int]] = {
    "at the start": lambda size: 0,
    "in the middle": lambda size: size // 2,
    "at the end": lambda size: max(0, size - 1),
}


def cut(response: Response, offset: int) -> None:
    response.cut_after = offset


def cut_without_length(response: Response) -> None:
    response.body = response.body[: len(response.body) // 2]
    response.replace("Content-Length", None)


def reset(response: Response, offset: int) -> None:
    response.cut_after = offset
    response.reset = True


def stall(response: Response, offset: int) -> None:
    response.stall_after = offset


def flip(response: Response, offset: int) -> None:
    response.body = faults.flip(response.body, 8 * offset + random.randrange(8))


def insert(response: Response, offset: int) -> None:
    response.body = response.body[:offset] + b"\0" + response.body[offset:]
    response.replace("Content-Length", str(len(response.body)))


def omit(response: Response, offset: int) -> None:
    response.body = response.body[:offset] + response.body[offset + 1 :]
    response.replace("Content-Length", str(len(response.body)))


def trickle(response: Response) -> None:
    response.trickle = 0.05


def long_range(response: Response) -> None:
    """More than was asked for, as it says."""
    value = response.header("Content-Range")
    if value is not None:
        first, _, total = value.partition("/")
        start, _, last = first.rpartition("-")
        lengthen(response)
        response.replace("Content-Range", f"{start}-{int(last) + 4}/{total}")


def other_total(response: Response) -> None:
    value = response.header("Content-Range")
    if value is not None:
        response.replace("Content-Range", value + "0")


def shift_range(response: Response) -> None:
    value = response.header("Content-Range")
    if value is not None:
        response.replace("Content-Range", value.replace("bytes ", "bytes 1"))


def whole_for_range(response: Response) -> None:
    if response.status == 206:
        response.status = 200
        response.replace("Content-Range", None)


def other_etag(response: Response) -> None:
    if response.header("ETag") is not None:
        response.replace("ETag", '"0123456789abcdef0123456789abcdef"')


def swap_ends(response: Response) -> None:
    half = len(response.body) // 2
    response.body = response.body[half:] + response.body[:half]


def zeros(response: Response) -> None:
    response.body = bytes(len(response.body))


def changed(change: Callable[[Response], None]) -> Fault:
    def apply(_: Request, forward: Forward) -> Response:
        response = forward()
        change(response)
        return response

    return apply


def at(
    change: Callable[[Response, int], None], offset: Callable[[int], int]
) -> Callable[[Response], None]:
    return lambda response: change(response, offset(len(response.body)))


def flip_request(request: Request, forward: Forward) -> Response:
    """What is sent is damaged on its way to the server."""
    request.body = faults.flip(request.body, random.getrandbits(40))
    return forward()


def header_lines() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in itertools.count():
        yield f"X-{number}: {'x' * 1000}\r\n".encode()


def slow_header_lines() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in range(1000):
        time.sleep(0.05)
        yield b"X-%d: x\r\n" % (number % 50)


# What happens to one answer
FAULTS: dict[str, Fault] = {
    "503": faults.status(503),
    "503 with a pause": faults.status(503, Retry_After="1"),
    "429": faults.status(429),
    "500": faults.status(500),
    "502 of a proxy": faults.status(502, b"<html>Bad gateway</html>"),
    "504": faults.status(504),
    "408": faults.status(408),
    "403 of a proxy": faults.status(403, b"<html>Forbidden</html>"),
    "404 of a proxy": faults.status(404, b"<html>Not found</html>"),
    "200 of a proxy": faults.status(200, b"<html>Please log in</html>"),
    "204": faults.status(204),
    "redirect": faults.status(307, Location="http://127.0.0.1:9/elsewhere"),
    "reset before": faults.break_before,
    "reset after": faults.lose_response,
    "half of the body, no length": changed(cut_without_length),
    "half of the body, honest length": changed(shorten),
    "longer body": changed(lengthen),
    "stall before": faults.change(stall_after=0),
    "byte by byte": changed(trickle),
    "wrong range": changed(shift_range),
    "more than the range": changed(long_range),
    "other size of the object": changed(other_total),
    "whole object for a range": changed(whole_for_range),
    "other etag": changed(other_etag),
    "swapped": changed(swap_ends),
    "zeros": changed(zeros),
    "flipped bit in the request": flip_request,
    "no HTTP": faults.raw(lambda: [b"SSH-2.0-OpenSSH_9.2p1\r\n"]),
    "garbage": faults.raw(lambda: [b"HTTP/1.1 abc \xff\xfe\r\n\r\n"]),
    "header line by line": faults.raw(slow_header_lines),
    "endless headers": faults.raw(header_lines),
    "endless status line": faults.endless(b"HTTP/1.1 ", b"2" * 65536),
    "error of 100 MB": faults.raw(
        lambda: itertools.chain(
            [b"HTTP/1.1 500 No\r\nContent-Length: 104857600\r\n\r\n"],
            itertools.repeat(b"x" * MIB, 100),
        )
    ),
    "endless error": faults.endless(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * MIB),
    **{
        f"{name} {where}": changed(at(change, offset))
        for name, change in {
            "cut": cut,
            "reset": reset,
            "stall": stall,
            "flipped bit": flip,
            "one byte more": insert,
            "one byte less": omit,
        }.items()
        for where, offset in OFFSETS.items()
    },
}
# What happens to several requests in a row
BURSTS = {
    f"{name}, {number} times": (fault, number)
    for name, fault in {
        "503": faults.status(503),
        "429 with a pause": faults.status(429, Retry_After="0"),
        "500": faults.status(500),
        "reset before": faults.break_before,
        "reset after": faults.lose_response,
        "cut": changed(at(cut, OFFSETS["in the middle"])),
    }.items()
    for number in (2, 5, 20)
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_fault(
    storage: Remote,
    operation: str,
    torture: int,
    chance: random.Random,
    count: Callable[[str, int], None],
) -> None:
    requests = range(requests_of(storage, OPERATIONS[operation]))
    once = [
        (f"request {index}: {name}", faults.nth(index, fault))
        for index, (name, fault) in itertools.product(requests, FAULTS.items())
    ]
    bursts = [
        (f"from request {index} on: {name}", burst(index, fault, number))
        for index, (name, (fault, number)) in itertools.product(
            requests, BURSTS.items()
        )
    ]
    # They last until nobody has patience any more, which takes time
    for_ever = [
        (f"from request {index} on: {name}", faults.nth(index, fault, and_later=True))
        for index, (name, fault) in itertools.product(requests, FAULTS.items())
    ]
    # Any of them, other ones each time
    once = chance.sample(once, min(len(once), 6 + 300 * torture))
    bursts = chance.sample(bursts, min(len(bursts), 1 + 40 * torture))
    for_ever = chance.sample(for_ever, min(len(for_ever), 1 + 15 * torture))
    failures = []
    for name, fault in once + bursts + for_ever:
        random.seed(chance.random())
        try:
            attempt(storage, OPERATIONS[operation], fault)
        except Exception as error:  # noqa: BLE001
            failures.append((name, repr(error)[:300]))
    assert failures == []
    backend = storage.repository.backend
    count(f"faults on the wire to {backend}: one answer", len(once))
    count(f"faults on the wire to {backend}: 2 to 20 answers", len(bursts))
    count(f"faults on the wire to {backend}: all answers from one on", len(for_ever))


def burst(index: int, fault: Fault, number: int) -> Fault:
    """Fault that happens to some requests in a row."""
    seen = itertools.count()

    def apply(request: Request, forward: Forward) -> Response | None:
        if next(seen) in range(index, index + number):
            return fault(request, forward)
        return forward()

    return apply


def test_random_faults(
    storage: Remote,
    torture: int,
    chance: random.Random,
    count: Callable[[str, int], None],
) -> None:
    """Faults of any kind happen to a tenth, or a half, of all requests."""
    # Those that last long are left out
    kinds = [
        fault
        for name, fault in FAULTS.items()
        if not any(word in name for word in ("stall", "slow", "endless", "line", "MB"))
    ]
    happened = 0

    def random_fault(share: float) -> Fault:
        def apply(request: Request, forward: Forward) -> Response | None:
            nonlocal happened
            if chance.random() > share:
                return forward()
            happened += 1
            return chance.choice(kinds)(request, forward)

        return apply

    names = sorted(OPERATIONS)
    for index in range(2 + 60 * torture):
        share = chance.choice([0.1, 0.3, 0.5])
        attempt(storage, OPERATIONS[names[index % len(names)]], random_fault(share))
    backend = storage.repository.backend
    count(f"faults on the wire to {backend}: random schedules", happened)
