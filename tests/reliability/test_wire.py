"""Whatever happens on the wire, the outcome is right, or a clear error in time."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import itertools
import random

import pytest

from tests.backends import proxy as faults
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.proxy import Answer
from tests.backends.proxy import Fault
from tests.backends.proxy import Forward
from tests.backends.proxy import Request
from tests.reliability.remote import OPERATIONS
from tests.reliability.remote import Remote
from tests.reliability.remote import attempt
from tests.reliability.remote import place as place
from tests.reliability.remote import requests_of


MIB = 1024 * 1024


def lengthen(answer: Answer) -> None:
    answer.body += b"more"
    answer.replace("Content-Length", str(len(answer.body)))


def shorten(answer: Answer) -> None:
    answer.body = answer.body[: len(answer.body) // 2]
    answer.replace("Content-Length", str(len(answer.body)))


def cut(share: float) -> Callable[[Answer], None]:
    def change(answer: Answer) -> None:
        answer.cut_after = int(len(answer.body) * share)

    return change


def cut_one(answer: Answer) -> None:
    answer.cut_after = max(0, len(answer.body) - 1)


def cut_without_length(answer: Answer) -> None:
    answer.body = answer.body[: len(answer.body) // 2]
    answer.replace("Content-Length", None)


def reset_inside(answer: Answer) -> None:
    answer.cut_after = len(answer.body) // 3
    answer.reset = True


def stall_inside(answer: Answer) -> None:
    answer.stall_after = len(answer.body) // 2


def shift_range(answer: Answer) -> None:
    value = answer.header("Content-Range")
    if value is not None:
        answer.replace("Content-Range", value.replace("bytes ", "bytes 1"))


def whole_for_range(answer: Answer) -> None:
    if answer.status == 206:
        answer.status = 200
        answer.replace("Content-Range", None)


def other_tag(answer: Answer) -> None:
    if answer.header("ETag") is not None:
        answer.replace("ETag", '"0123456789abcdef0123456789abcdef"')


def swap_ends(answer: Answer) -> None:
    half = len(answer.body) // 2
    answer.body = answer.body[half:] + answer.body[:half]


def flip_somewhere(answer: Answer) -> None:
    answer.body = faults.flip(answer.body, random.getrandbits(40))


def zeros(answer: Answer) -> None:
    answer.body = bytes(len(answer.body))


def changed(change: Callable[[Answer], None]) -> Fault:
    def apply(_: Request, forward: Forward) -> Answer:
        answer = forward()
        change(answer)
        return answer

    return apply


def flip_request(request: Request, forward: Forward) -> Answer:
    """What is sent is damaged on its way to the server."""
    request.body = faults.flip(request.body, random.getrandbits(40))
    return forward()


def header_lines() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in itertools.count():
        yield f"X-{number}: {'x' * 1000}\r\n".encode()


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
    "reset after": faults.lose_answer,
    "reset inside": changed(reset_inside),
    "nothing of the body": changed(cut(0)),
    "half of the body": changed(cut(0.5)),
    "one byte less": changed(cut_one),
    "half of the body, no length": changed(cut_without_length),
    "half of the body, honest length": changed(shorten),
    "longer body": changed(lengthen),
    "stall before": faults.change(stall_after=0),
    "stall inside": changed(stall_inside),
    "wrong range": changed(shift_range),
    "whole object for a range": changed(whole_for_range),
    "other tag": changed(other_tag),
    "swapped": changed(swap_ends),
    "flipped bit": changed(flip_somewhere),
    "zeros": changed(zeros),
    "flipped bit in the request": flip_request,
    "no HTTP": faults.raw(lambda: [b"SSH-2.0-OpenSSH_9.2p1\r\n"]),
    "garbage": faults.raw(lambda: [b"HTTP/1.1 abc \xff\xfe\r\n\r\n"]),
    "endless headers": faults.raw(header_lines),
    "endless status line": faults.endless(b"HTTP/1.1 ", b"2" * 65536),
    "error of 100 MB": faults.raw(
        lambda: itertools.chain(
            [b"HTTP/1.1 500 No\r\nContent-Length: 104857600\r\n\r\n"],
            itertools.repeat(b"x" * MIB, 100),
        )
    ),
    "endless error": faults.endless(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * MIB),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_fault(
    place: Remote,
    operation: str,
    torture: int,
    chance: random.Random,
    count: Callable[[str, int], None],
) -> None:
    number = requests_of(place, OPERATIONS[operation])
    points = list(itertools.product(range(number), FAULTS, (False, True)))
    if not torture:
        # Any of them, other ones each time
        points = chance.sample(points, 8)
    failures = []
    for index, name, and_later in points:
        fault = faults.nth(index, FAULTS[name], and_later=and_later)
        random.seed(chance.random())
        try:
            attempt(place, OPERATIONS[operation], fault)
        except Exception as error:  # noqa: BLE001
            failures.append((index, name, and_later, repr(error)[:300]))
    assert failures == []
    count("faults on the wire", len(points))
