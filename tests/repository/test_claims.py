"""What a publisher does with its claim while others may want it."""

from __future__ import annotations

from collections.abc import Iterator
import threading
import time

import pytest

import audmodel
from audmodel.core.backend.objects import ANY
from audmodel.core.process import requests
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document
from audmodel.errors import PublishConflictError
from audmodel.errors import RepositoryError
from tests.processes import Interpreter


MODEL = ModelId("12345678", "1.0.0")
ARCHIVE = layout.archive_path(MODEL, "torch")


@pytest.fixture
def registry(repository: audmodel.Repository) -> Iterator[Registry]:
    with open_registry(repository) as registry:
        yield registry


def test_other_processes_see_that_the_publisher_is_alive(
    registry: Registry, python: Interpreter
) -> None:
    code = """
        from audmodel.core.repository import claim_record
        return claim_record.is_alive(args["data"].encode())
    """
    with claims.claimed(registry, MODEL, ARCHIVE):
        stored = registry.backend.read_object(
            layout.record_path(MODEL, "claim"), document.MAX_BYTES
        )
        assert stored is not None
        data = stored.data.decode()
        assert python.run(code, data=data) is True
        # A process that had the same number is another one
        start = document.load(stored.data, "The claim")["start"]
        reused = data.replace(f"'{start}'", f"'{start}0'")
        assert reused != data
        assert python.run(code, data=reused) is False


@pytest.mark.parametrize(
    ("no_conditional_writes", "unprotected"),
    [("conditions are ignored", False), ("", True)],
)
def test_claim_is_looked_at_where_writers_are_not_kept_apart(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    no_conditional_writes: str,
    unprotected: bool,
) -> None:
    with claims.claimed(registry, MODEL, ARCHIVE) as claim:
        registry.backend.delete_object(layout.record_path(MODEL, "claim"), ANY)
        claim.fence()  # it was renewed a moment ago
        monkeypatch.setattr(
            type(registry.backend), "no_conditional_writes", no_conditional_writes
        )
        monkeypatch.setattr(registry.backend, "unprotected", unprotected)
        with pytest.raises(PublishConflictError):
            claim.fence()


def test_claim_is_not_renewed_after_its_block(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Event()
    ended = []

    def renew() -> None:
        started.set()
        while not requests.cancelled():
            time.sleep(0.01)
        time.sleep(0.2)  # to notice takes a while
        ended.append(True)
        raise RepositoryError("The request was ended.")

    monkeypatch.setattr(claims, "RENEW_INTERVAL", 0.01)
    monkeypatch.setattr(claims, "GRACE", 0.01)
    with claims.claimed(registry, MODEL, ARCHIVE) as claim:
        monkeypatch.setattr(claim, "renew", renew)
        with pytest.raises(RepositoryError, match="was ended"), claim.renewing():
            assert started.wait(10)
        assert ended == [True]
