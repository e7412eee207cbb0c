"""IDs are what they ever were, and nothing else is taken for one."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

import audmodel
from audmodel.core import uid as ids
from tests.behaviour.backends import publish


USAGE_PAGE = {
    "model": "cnn10",
    "data": ["emodb", "msppodcast"],
    "feature": "melspec",
    "sampling_rate": 16000,
}
PARAMS = {
    "model": "cnn10",
    "data": "emodb",
    "feature": "melspec",
    "sampling_rate": 16000,
}


def test_known_ids() -> None:
    uid = audmodel.uid("onnx", USAGE_PAGE, "1.0.0", subgroup="emotion.cnn")
    assert uid == "3e120e8d-1.0.0"
    uid = audmodel.uid("onnx", USAGE_PAGE, "2.0.0", subgroup="emotion.cnn")
    assert uid == "3e120e8d-2.0.0"
    uid = audmodel.uid("onnx", USAGE_PAGE, subgroup="emotion.cnn")
    assert uid == "3e120e8d"
    assert audmodel.uid("torch", PARAMS, subgroup="audmodel.dummy.cnn") == "d4e9c65b"
    legacy = audmodel.legacy_uid("test", PARAMS, "1.0.0", subgroup="audmodel.dummy.cnn")
    assert legacy == "65206614-dbb7-d61a-b00c-153db7b525c0"


def test_order_of_parameters() -> None:
    reverse = dict(reversed(PARAMS.items()))
    assert list(reverse) != list(PARAMS)
    assert audmodel.uid("a", reverse) == audmodel.uid("a", PARAMS)
    # But not in the first generation
    assert audmodel.legacy_uid("a", reverse, "1.0.0") != audmodel.legacy_uid(
        "a", PARAMS, "1.0.0"
    )


@pytest.mark.parametrize(
    "other", [{"name": "b"}, {"subgroup": "s"}, {"params": {"a": 2}}]
)
def test_everything_counts(other: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"name": "a", "params": {"a": 1}}
    assert audmodel.uid(**arguments) != audmodel.uid(**{**arguments, **other})


def test_no_and_empty_subgroup_are_the_same() -> None:
    assert audmodel.uid("a", {}) == audmodel.uid("a", {}, subgroup="")


def test_names_of_parameters_that_cannot_be_sorted() -> None:
    params: Any = {1: 1, "a": 2}
    with pytest.raises(ValueError, match="of one type"):
        audmodel.uid("a", params)


@pytest.mark.parametrize(
    "params",
    [
        {"date": datetime.date(2026, 1, 1)},
        {"tuple": (1, 2)},
        {"nested": {"b": 1, "a": [1.0, None, True]}},
        {"ä": "漢字"},
        {1: "number", 2: "number"},
    ],
)
def test_published_models_have_the_id_that_was_computed(
    repository: audmodel.Repository, model_folder: Path, params: Any
) -> None:
    uid = publish(model_folder, params=params, subgroup="a.b")
    assert uid == audmodel.uid("torch", params, "1.0.0", subgroup="a.b")
    # Also from what was stored
    stored = audmodel.parameters(uid)
    assert uid == audmodel.uid("torch", stored, "1.0.0", subgroup="a.b")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("3e120e8d", ids.ShortId),
        ("3e120e8d-1.0.0", ids.ModelId),
        ("3e120e8d-1.0.0-prod", ids.ModelId),
        ("65206614-dbb7-d61a-b00c-153db7b525c0", ids.ShortId),
        ("65206614-dbb7-d61a-b00c-153db7b525c0-1.0.0", ids.ModelId),
        ("3e120e8", ids.Alias),
        ("3e120e8dd", ids.Alias),
        ("3E120E8D", ids.Alias),
        ("3e120e8g", ids.Alias),
        ("3e120e8d-1.0", ids.Alias),
        ("3e120e8d-", ids.Alias),
        ("emotion-small", ids.Alias),
        ("65206614-dbb7-d61a-b00c-153db7b525c", ids.Alias),
    ],
)
def test_kinds(text: str, kind: type) -> None:
    parsed = ids.parse(text)
    assert isinstance(parsed, kind)
    assert str(parsed) == text


@given(st.text())
def test_any_text(text: str) -> None:
    try:
        parsed = ids.parse(text)
    except audmodel.errors.InvalidIdError:
        return
    # Whatever is accepted is one part of a path
    assert str(parsed) == text
    assert "/" not in text
    assert text.strip(".")
    assert text.isascii()
    assert text.isprintable()


def test_order_of_versions() -> None:
    versions = [
        "0.9.9",
        "1.0.0",
        "1.0.0-a",
        "1.0.0-rc9",
        "1.0.0-rc10",
        "1.0.1",
        "1.2.0",
        "1.10.0",
        "2.0.0",
        "10.0.0",
    ]
    assert ids.sort_versions(set(versions)) == versions


@given(st.lists(st.from_regex(ids._VERSION_PATTERN, fullmatch=True), max_size=5))
def test_any_versions_can_be_sorted(versions: list[str]) -> None:
    assert sorted(ids.sort_versions(set(versions))) == sorted(set(versions))


def test_location_that_is_too_long() -> None:
    with pytest.raises(audmodel.errors.InvalidInputError, match="700"):
        ids.check_location("a" * 100, ".".join(["b" * 100] * 7))
