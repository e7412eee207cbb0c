"""Documents that many clients change."""

from __future__ import annotations

from collections.abc import Iterator
import random
import time
from typing import Any

import pytest

import audmodel
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.repository import changes
from audmodel.core.repository import layout
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Mover
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document
from audmodel.errors import RepositoryError
from tests.threads import only_here


MODEL = ModelId("12345678", "1.0.0")


@pytest.fixture
def registry(repository: audmodel.Repository) -> Iterator[Registry]:
    with open_registry(repository) as registry:
        yield registry


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest that each pause could have been."""
    longest: list[float] = []

    def uniform(start: float, end: float) -> float:
        longest.append(end)
        return end

    monkeypatch.setattr(random, "uniform", uniform)
    monkeypatch.setattr(time, "sleep", only_here(time.sleep, lambda _: None))
    return longest


def test_alias_that_stays_as_it_is_is_not_stored_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.set_alias("best", MODEL, Mover())

    def replace_object(*args: Any) -> bool:
        raise AssertionError

    monkeypatch.setattr(FileSystem, "replace_object", replace_object)
    registry.set_alias("best", MODEL, Mover())


def test_pauses_grow_while_others_are_faster(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    registry.set_alias("best", MODEL, Mover())
    monkeypatch.setattr(FileSystem, "replace_object", lambda *args: False)
    with pytest.raises(RepositoryError, match="Try again later"):
        registry.set_alias("best", ModelId("12345678", "2.0.0"), Mover())
    assert len(pauses) == changes._ATTEMPTS
    assert all(pause >= min(0.01 * 2**k, 1) for k, pause in enumerate(pauses))


def test_clients_that_are_slow_get_room_for_an_attempt(pauses: list[float]) -> None:
    for attempt, duration in ((0, 0), (3, 0), (9, 0), (0, 30), (5, 30)):
        changes.pause(attempt, duration)
    assert pauses == [0.01, 0.08, 1, 30, 60]


def test_list_of_a_deleted_model_stays_until_it_is_empty(registry: Registry) -> None:
    def listed() -> bytes | None:
        stored = registry.backend.read_object(layout.list_path(MODEL), 1000)
        return None if stored is None else stored.data

    registry.set_alias("a", MODEL, Mover())
    registry.set_alias("b", MODEL, Mover())
    both = listed()
    assert both is not None
    registry.delete_alias("a", keep_list=True)
    assert listed() == both
    registry.delete_empty_list(MODEL, "a")
    rest = listed()
    assert rest is not None
    assert document.load(rest, "The list") == {"aliases": ["b"]}
    registry.delete_alias("b", keep_list=True)
    for _ in range(2):
        registry.delete_empty_list(MODEL, "b")
        assert listed() is None
