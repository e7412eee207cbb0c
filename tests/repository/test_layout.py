"""Paths of a repository lead back to what they are the paths of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from audmodel.errors import InvalidInputError


MODELS = [
    ModelId("3e120e8d", "1.0.0"),
    ModelId("3e120e8d", "1.0.0-rc.1"),
    ModelId("56bf9221-fa70-62b6-9e7f-baaf7ae94726", "10.20.30"),
]
KINDS = ("header", "meta", "claim")


def what_is_at(path: str) -> dict[str, object]:
    """All that a path may stand for."""
    found: dict[str, object] = {
        kind: layout.model_of_record(path, kind) for kind in KINDS
    }
    found["archive"] = layout.model_of_archive(path)
    found["list"] = layout.model_of_list(path)
    found["alias"] = layout.alias_of(path)
    return {kind: item for kind, item in found.items() if item is not None}


@pytest.mark.parametrize("model", MODELS)
def test_path_stands_for_one_thing(model: ModelId) -> None:
    for kind in KINDS:
        assert what_is_at(layout.record_path(model, kind)) == {kind: model}
    assert what_is_at(layout.list_path(model)) == {"list": model}
    for location in ("torch", layout.location("torch", "a.b/c")):
        assert what_is_at(layout.archive_path(model, location)) == {"archive": model}


def test_path_of_an_alias() -> None:
    assert what_is_at(layout.alias_path("best.v1")) == {"alias": "best.v1"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path + ".old",
        lambda path: "/backup" + path,
        lambda path: path.replace("1", "2", 1),
        lambda path: path.replace("/", "/new/", 2),
    ],
)
def test_other_files_among_records(
    model: ModelId, change: Callable[[str], str]
) -> None:
    paths = [layout.record_path(model, kind) for kind in KINDS]
    for path in [*paths, layout.list_path(model)]:
        assert what_is_at(change(path)) == {}


def test_records_that_may_change() -> None:
    model = MODELS[0]
    changeable = [layout.alias_path("best"), layout.record_path(model, "meta")]
    assert all(map(layout.is_changeable, changeable))
    others = [
        layout.record_path(model, "header"),
        layout.record_path(model, "claim"),
        layout.list_path(model),
        layout.archive_path(model, "torch"),
        layout.alias_path("best") + ".old",
    ]
    assert not any(map(layout.is_changeable, others))


@pytest.mark.parametrize(
    ("name", "subgroup"),
    [
        ("_uid", ""),
        ("torch", "_alias"),
        ("torch", "_catalog.a"),
        ("_uid/torch", ""),
        ("torch", "_uid.a"),
    ],
)
def test_folders_of_records_hold_no_archives(name: str, subgroup: str) -> None:
    with pytest.raises(InvalidInputError, match="reserved"):
        layout.check_location(name, subgroup)


def test_location_that_is_too_long() -> None:
    with pytest.raises(InvalidInputError, match="700"):
        layout.check_location("a" * 100, ".".join(["b" * 100] * 7))
