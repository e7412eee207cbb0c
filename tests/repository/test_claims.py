"""What a publisher does with its claim while others may want it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import threading
import time

import pytest

import audmodel
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.objects import ANY
from audmodel.core.process import requests
from audmodel.core.repository import claim_record
from audmodel.core.repository import claims
from audmodel.core.repository import deletion
from audmodel.core.repository import layout
from audmodel.core.repository import orphans
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document
from audmodel.errors import ModelNotFoundError
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


def test_claim_of_a_dead_process_that_vanishes_is_forgotten(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of a deletion that another process has finished."""
    path = layout.record_path(MODEL, "claim")
    dead = claim_record.dump(ARCHIVE, "etag", is_deleted=True)
    assert registry.backend.create_object(path, dead)
    replace_object = type(registry.backend).replace_object

    def vanish(backend: ObjectBackend, path: str, data: bytes, etag: str) -> bool:
        backend.delete_object(path, ANY)
        return replace_object(backend, path, data, etag)

    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(type(registry.backend), "replace_object", vanish)
        with claims.claimed(registry, MODEL, ARCHIVE) as claim:
            assert not claim.is_deleted
            stored = registry.backend.read_object(path, document.MAX_BYTES)
    assert stored is not None
    assert not claim_record.is_deleted_by(stored.data)
    assert claim_record.found_by(stored.data) is None
    assert not claim_record.is_published_by(stored.data)


def test_claim_proves_orphans_unless_the_model_may_be_published(
    registry: Registry,
) -> None:
    path = layout.record_path(MODEL, "claim")
    for options in ({}, {"may_be_published": True}):
        with claims.claimed(registry, MODEL, ARCHIVE, **options):
            stored = registry.backend.read_object(path, document.MAX_BYTES)
            assert stored is not None
            assert claim_record.is_published_by(stored.data) is bool(options)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RepositoryError("lost")])
def test_claim_stays_if_it_is_unknown_whether_the_header_was_deleted(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    header = layout.record_path(MODEL, "header")
    registry.backend.create_object(header, b"header")

    def stat_object(path: str) -> None:
        raise RepositoryError(path)

    def delete() -> None:
        with claims.claimed(registry, MODEL, ARCHIVE, may_be_published=True) as claim:
            claim.begin_delete()
            if isinstance(failure, Exception):
                monkeypatch.setattr(registry.backend, "stat_object", stat_object)
            raise failure

    with pytest.raises(type(failure)):
        delete()
    path = layout.record_path(MODEL, "claim")
    stored = registry.backend.read_object(path, document.MAX_BYTES)
    assert stored is not None
    assert claim_record.is_alive(stored.data) is False


def test_start_of_a_process_without_details_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("")
    monkeypatch.setattr(claim_record, "_PROCESSES", str(tmp_path))
    assert claim_record._process_start(7) is None


@pytest.mark.parametrize(
    ("has_thread", "age", "is_renewed"),
    [(False, 11, True), (False, 9, False), (True, 11, False)],
)
def test_check_renews_an_old_claim_only_without_a_thread(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    has_thread: bool,
    age: float,
    is_renewed: bool,
) -> None:
    renewals: list[bool] = []
    if not has_thread:
        monkeypatch.setattr(claims, "start_thread", lambda _: False)
    with claims.claimed(registry, MODEL, ARCHIVE) as claim:
        monkeypatch.setattr(claim, "renew", lambda: renewals.append(True))
        monkeypatch.setattr(claim, "_age", lambda: age)
        with claim.renewing() as check:
            check()
            assert bool(renewals) is is_renewed


def test_deletion_of_a_dead_process_is_still_known_after_a_look(
    registry: Registry,
) -> None:
    path = layout.record_path(MODEL, "claim")
    dead = claim_record.dump(ARCHIVE, "etag", is_deleted=True)
    assert registry.backend.create_object(path, dead)
    with pytest.raises(ModelNotFoundError):
        deletion.check_not_deleted(registry, MODEL)
    stored = registry.backend.read_object(path, document.MAX_BYTES)
    assert stored is not None
    assert claim_record.is_deleted_by(stored.data)
    assert claim_record.archive_of(stored.data) == ARCHIVE


def test_orphan_that_vanishes_during_the_search_is_left_out(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.backend.create_object(ARCHIVE, b"archive")
    assert list(orphans._Search(registry).candidates())
    monkeypatch.setattr(registry.backend, "stat_object", lambda _: None)
    assert not list(orphans._Search(registry).candidates())


def test_claim_with_an_uncertain_form_is_deleted_on_a_condition(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete_object = registry.backend.delete_object
    etags: list[str | None] = []

    def delete(path: str, etag: str) -> bool:
        etags.append(etag)
        return delete_object(path, etag)

    monkeypatch.setattr(registry.backend, "delete_object", delete)
    path = layout.record_path(MODEL, "claim")
    with claims.claimed(registry, MODEL, ARCHIVE) as claim:
        stored = registry.backend.read_object(path, document.MAX_BYTES)
        assert stored is not None
        claim.is_deleted = True
        claim.new_form()  # whether it was stored is unknown
    assert etags == [stored.etag]
    assert registry.backend.stat_object(path) is None
