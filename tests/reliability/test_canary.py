"""Secrets appear nowhere, whatever goes wrong and whoever logs it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from collections.abc import Iterator
import io
import itertools
import logging
from pathlib import Path
import random
import urllib.parse
import warnings

import pytest

import audmodel
from audmodel import errors
from tests.backends import proxy as faults
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.seaweedfs import CANARY
from tests.backends.test_secrets import describe
from tests.reliability.remote import OPERATIONS
from tests.reliability.remote import Remote
from tests.reliability.remote import remote
from tests.reliability.test_wire import FAULTS


def encodings() -> set[str]:
    """The canary as it may appear, in parts that no encoding depends on."""
    found = {CANARY, CANARY[::-1], CANARY.encode().hex(), CANARY.lower()}
    found.add(urllib.parse.quote("".join(f"%{ord(c):02X}" for c in CANARY)))
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + CANARY.encode()).decode()
        # The ends depend on what stands beside it
        found.add(encoded[4:-4])
    return found


def check(texts: list[str]) -> None:
    for text, needle in itertools.product(texts, encodings()):
        assert needle not in text


@pytest.fixture(params=["s3", "artifactory"])
def place(
    request: pytest.FixtureRequest,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Remote]:
    with remote(request.param, monkeypatch, tmp_path) as place:
        yield place


@pytest.fixture
def texts(capfd: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """All that is logged at any level by anybody, warned of, and printed."""
    collected: list[str] = []
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield collected
    root.setLevel(level)
    root.removeHandler(handler)
    out, err = capfd.readouterr()
    collected += [stream.getvalue(), out, err]
    collected += [f"{w.message} {w.source!r}" for w in caught]
    # There was something to look at
    assert "HTTP/1.1" in stream.getvalue()
    check(collected)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_faults(
    place: Remote,
    texts: list[str],
    tmp_path: Path,
    operation: str,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    kinds = [kind for kind in FAULTS if not kind.startswith("stall")]
    if not torture:
        kinds = chance.sample(kinds, 4)
    texts.append(repr(place.repository))
    for kind in kinds:
        fault = faults.nth(chance.randrange(3), FAULTS[kind], and_later=True)
        call, _ = OPERATIONS[operation](place)
        with place.fault(fault):
            try:
                call()
            except errors.AudmodelError as error:
                texts += [describe(error), repr(error.__dict__)]
    texts += [repr(vars(place.repository)), repr(audmodel.config)]
    with place.repository.connect() as backend:
        texts += [repr(backend), repr(vars(backend))]
    for path in tmp_path.rglob("*"):
        texts.append(str(path))
        if path.is_file() and path.stat().st_size < 100_000:
            texts.append(path.read_bytes().decode("latin-1"))
    count("calls with faults looked through for secrets", len(kinds))
