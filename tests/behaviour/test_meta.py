"""Metadata is merged, replaced, never lost and never stale."""

from __future__ import annotations

import datetime
from pathlib import Path
import types
from typing import Any

import pytest

import audmodel
from audmodel.core.backend.objects import ANY
from audmodel.core.repository import changes
from audmodel.core.repository import registry
from audmodel.core.uid import ModelId
from tests.behaviour.backends import content
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


def record(uid: str) -> str:
    short, version = uid.split("-", 1)
    return f"/_uid/{short}/{version}/{uid}.meta.yaml"


MERGED: list[tuple[dict[str, object], dict[str, object], dict[str, object]]] = [
    ({}, {}, {}),
    ({}, {"a": 1}, {"a": 1}),
    ({"a": 1}, {}, {"a": 1}),
    ({"a": 1}, {"a": 2}, {"a": 2}),
    ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"x": 3, "y": 2}}),
    (
        {"a": {"x": {"p": 1}}},
        {"a": {"x": {"q": 2}}},
        {"a": {"x": {"p": 1, "q": 2}}},
    ),
    ({"a": {"x": 1}}, {"a": 5}, {"a": 5}),
    ({"a": 5}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}),
    ({"a": {"x": 1}}, {"a": None}, {"a": None}),
    ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
]


def test_merge(repository: audmodel.Repository, model_folder: Path) -> None:
    uid = publish(model_folder)
    for before, update, after in MERGED:
        audmodel.update_meta(uid, before, replace=True)
        assert audmodel.meta(uid) == before
        assert audmodel.update_meta(uid, update) == after
        assert audmodel.meta(uid) == after
        # New fields follow old ones
        assert list(audmodel.meta(uid)) == list(after)


def test_replace(repository: audmodel.Repository, model_folder: Path) -> None:
    uid = publish(model_folder, meta={"a": {"x": 1}, "b": 2})
    new = {"a": {"y": 1}}
    assert audmodel.update_meta(uid, new, replace=True) == new
    assert audmodel.meta(uid) == new
    assert audmodel.update_meta(uid, {}, replace=True) == {}
    assert audmodel.meta(uid) == {}


def test_values_come_back_as_they_were(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    meta: dict[Any, Any] = {
        "text": "ä ö ü 漢字 \N{GRINNING FACE}",
        "lines": "one\ntwo\n",
        "looks like a number": "1.0",
        "looks like a date": "2026-01-01",
        "looks like nothing": "null",
        "number": 1e-2,
        "infinite": float("inf"),
        "large": 2**100,
        "flag": True,
        "nothing": None,
        "date": datetime.date(2026, 1, 1),
        "time": datetime.datetime(2026, 1, 1, 12, 30),
        "tuple": (1, (2, "three")),
        "set": {1, 2},
        "list": [1, [2, [3]]],
        "bytes": b"\x00\xff",
        "empty": {"list": [], "dict": {}, "text": ""},
        16000: {"numbers": "as keys"},
    }
    uid = publish(model_folder, meta=meta)
    assert audmodel.meta(uid) == meta
    assert repr(audmodel.meta(uid)) == repr(meta)
    assert audmodel.update_meta(uid, {"tuple": (4,)}) == {**meta, "tuple": (4,)}


def test_result_and_arguments_are_independent(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    shared = {"x": [1]}
    uid = publish(model_folder, meta={"a": shared, "b": shared})
    update: dict[str, object] = {"c": shared}
    result = audmodel.update_meta(uid, update)
    result["c"]["x"].append(2)
    result["a"]["x"].append(2)
    assert shared == {"x": [1]}
    expected = {"a": {"x": [1]}, "b": {"x": [1]}, "c": {"x": [1]}}
    assert audmodel.meta(uid) == expected


def test_never_stale(
    repository: audmodel.Repository, model_folder: Path, cache: Path, tmp_path: Path
) -> None:
    uid = publish(model_folder, meta={"a": 1})
    other_cache = str(tmp_path / "other")
    for root in (str(cache), other_cache):
        assert audmodel.meta(uid, cache_root=root) == {"a": 1}
    audmodel.load(uid)
    # From the other cache, as another machine does
    audmodel.update_meta(uid, {"a": 2}, cache_root=other_cache)
    assert audmodel.meta(uid) == {"a": 2}
    # Behind our back
    store(repository, record(uid), b"a: 3\n")
    for root in (str(cache), other_cache):
        assert audmodel.meta(uid, cache_root=root) == {"a": 3}
        copy = Path(root) / uid.split("-")[0] / "1.0.0.meta.yaml"
        assert copy.read_bytes() == b"a: 3\n"


def test_metadata_belongs_to_a_version(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    first = publish(model_folder, meta={"a": 1})
    second = publish(model_folder, meta={"a": 2}, version="2.0.0")
    audmodel.update_meta(first.split("-")[0], {"b": 3})
    assert audmodel.meta(first) == {"a": 1}
    assert audmodel.meta(second) == {"a": 2, "b": 3}


def test_missing_record_is_empty_metadata(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, meta={"a": 1})
    with repository.connect() as backend:
        backend.delete_object(record(uid), ANY)
    assert audmodel.meta(uid) == {}
    assert audmodel.update_meta(uid, {"b": 2}) == {"b": 2}
    assert audmodel.meta(uid) == {"b": 2}


def test_update_that_cannot_be_stored_changes_nothing(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, meta={"a": 1})
    before = content(repository)
    bad: list[Any] = [{"a": object()}, {"a": open}, {object(): 1}, [1], "text", None]
    for meta in [*bad, {"a": {1: len}}]:
        for replace in False, True:
            with pytest.raises(audmodel.errors.InvalidInputError, match="meta"):
                audmodel.update_meta(uid, meta, replace=replace)
    assert content(repository) == before
    assert audmodel.meta(uid) == {"a": 1}


def test_unreadable_metadata_is_not_overwritten(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, meta={"a": 1})
    store(repository, record(uid), b"a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(audmodel.errors.InvalidDocumentError, match=uid):
        audmodel.meta(uid)
    with pytest.raises(audmodel.errors.InvalidDocumentError, match=uid):
        audmodel.update_meta(uid, {"b": 2})
    stored = content(repository)[record(uid)]
    assert stored == b"a: !!python/object/apply:os.getcwd []\n"
    # Unless it is what was asked for
    assert audmodel.update_meta(uid, {"b": 2}, replace=True) == {"b": 2}


@pytest.mark.parametrize(
    ("seconds", "longest"),
    [
        # Many changes of small documents
        (0.0, [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1]),
        # An attempt fits into the pauses of others
        (3.0, [3, 6, 6, 6, 6, 6, 6, 6, 6]),
    ],
)
def test_pauses_follow_the_length_of_an_attempt(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    longest: list[float],
) -> None:
    uid = publish(model_folder)
    model = ModelId(*uid.split("-"))
    clock = [0.0]
    pauses: list[float] = []
    stand_in = types.SimpleNamespace(monotonic=lambda: clock[0], sleep=pauses.append)
    monkeypatch.setattr(changes, "time", stand_in)
    monkeypatch.setattr("random.uniform", lambda _, end: end)
    with repository.connect() as backend:
        replace = backend.replace_object

        def lose(path: str, data: bytes, etag: str) -> bool:
            clock[0] += seconds
            return len(pauses) == len(longest) and replace(path, data, etag)

        monkeypatch.setattr(backend, "replace_object", lose)
        registry.Registry(backend).change_meta(model, {"a": 1}, replace=False)
    assert pauses == pytest.approx(longest)
    assert audmodel.meta(uid) == {"a": 1}
