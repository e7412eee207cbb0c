"""IDs are what they ever were, and nothing else is taken for one."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import hashlib
from pathlib import Path
import time
import types
from typing import Any
import zoneinfo

from hypothesis import given
from hypothesis import strategies as st
import pytest

import audmodel
from audmodel.core import uid as ids
from audmodel.core.yaml import document
from audmodel.errors import InvalidDataError
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
OFFSET = datetime.timezone(datetime.timedelta(hours=1))


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


def test_versions_that_differ_in_zeros_only() -> None:
    versions = ["01.0.0", "1.0.0", "1.0.0-01", "1.0.0-1"]
    for order in (versions, versions[::-1]):
        assert ids.sort_versions(order) == versions


@pytest.mark.parametrize(
    "version", ["1.0.0-rc1", "1.0.0-RC.1", "1.0.0-beta", "1.0.0-a2", "2.0.0-dev"]
)
def test_version_that_looks_like_one_before(
    repository: audmodel.Repository, model_folder: Path, version: str
) -> None:
    with pytest.warns(UserWarning, match=rf"'{version}' counts as newer"):
        uid = publish(model_folder, version=version)
    publish(model_folder, version=version.split("-")[0])
    assert audmodel.latest_version(uid) == version


@pytest.mark.parametrize("version", ["1.0.0-prod", "1.0.0-arm", "1.0.0-1", "1.0.0-bf"])
def test_other_suffixes(
    repository: audmodel.Repository, model_folder: Path, version: str
) -> None:
    # Warnings are errors
    assert publish(model_folder, version=version).endswith(version)


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    CNN = "cnn"


Pair = collections.namedtuple("Pair", "a b")

VALUES = {
    "fraction": (fractions.Fraction(1, 2), fractions.Fraction(1, 2)),
    "ordered dictionary": (
        collections.OrderedDict(b=Level.HIGH, a=2),
        {"b": 3, "a": 2},
    ),
    "dictionary with default": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "mapping": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "integer enum": (Level.HIGH, 3),
    "text enum": (Name.CNN, "cnn"),
    "named tuple": (Pair(1, 2), (1, 2)),
    "time with zone": (
        datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Etc/GMT-2")),
        datetime.datetime(
            2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))
        ),
    ),
    "second of two equal times": (
        datetime.datetime(2026, 1, 1, fold=1),
        datetime.datetime(2026, 1, 1),
    ),
    "path": (Path("a/b"), Path("a/b")),
    "time span": (datetime.timedelta(1), datetime.timedelta(1)),
}


@pytest.mark.parametrize(("value", "plain"), VALUES.values(), ids=VALUES)
def test_values_count_as_they_are_stored(
    repository: audmodel.Repository, model_folder: Path, value: object, plain: object
) -> None:
    for name, mapping in (("a", {"x": value}), ("b", {"x": [{"y": (value,)}]})):
        uid = publish(model_folder, name=name, params=mapping)
        assert uid == audmodel.uid(name, mapping, "1.0.0")
        stored = audmodel.parameters(uid)
        assert uid == audmodel.uid(audmodel.name(uid), stored, audmodel.version(uid))
    assert audmodel.uid("a", {"x": value}) == audmodel.uid("a", {"x": plain})
    assert audmodel.uid("a", {"x": plain}) == short_id_of_the_release("a", {"x": plain})


def short_id_of_the_release(name: str, params: dict[str, Any]) -> str:
    """ID of plain parameters, which never changes."""
    text = f".{name}{dict(sorted(params.items()))}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[-8:]


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.dates()
    | st.datetimes().map(lambda time: time.replace(fold=0))
    | st.timedeltas()
    | st.times().map(lambda time: time.replace(fold=0)),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)


@pytest.mark.thorough
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), plain_values))
def test_ids_of_plain_parameters_stay(params: dict[str, Any]) -> None:
    assert audmodel.uid("n", params) == short_id_of_the_release("n", params)
    stored = document.load(document.dump(params, "params"), "params")
    assert audmodel.uid("n", stored) == audmodel.uid("n", params)


@pytest.mark.parametrize(
    ("value", "uid"),
    [
        (datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), "786a00bf"),
        (datetime.datetime(2020, 1, 1, tzinfo=OFFSET), "a71bed65"),
        (datetime.datetime(2020, 1, 1), "a6aa7248"),
        (datetime.time(1), "87a55e0f"),
        (datetime.timedelta(1), "8d189acb"),
        (fractions.Fraction(1, 2), "7182def2"),
        (decimal.Decimal("0.1"), "ee87f3d8"),
        (Path("a"), "63cedfd7"),
        ((1, 2), "27dff2ae"),
        (b"1", "fb46b909"),
        (1j, "7b95e354"),
    ],
    ids=repr,
)
def test_ids_that_the_release_made(value: object, uid: str) -> None:
    assert audmodel.uid("n", {"p": value}, subgroup="s") == uid


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (
            datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
            datetime.datetime(2020, 1, 1, tzinfo=OFFSET),
        ),
        (collections.defaultdict(int, a=1), {"a": 1}),
        (collections.Counter("ab"), {"a": 1, "b": 1}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ids_that_differ_from_those_of_the_release(
    value: object, plain: object
) -> None:
    assert audmodel.uid("n", {"p": value}) == audmodel.uid("n", {"p": plain})
    assert audmodel.uid("n", {"p": value}) != short_id_of_the_release("n", {"p": value})


def test_parameters_that_cannot_be_stored_count_as_they_are() -> None:
    params: dict[str, Any] = {"x": range(3)}
    assert audmodel.uid("n", params) == short_id_of_the_release("n", params)


def test_parameters_that_are_nested_too_deep(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    def nested(depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for _ in range(depth - 1):
            value = {"x": value}
        return value

    publish(model_folder, params=nested(63))
    for depth in (64, 65, 66, 200):
        with pytest.raises(InvalidDataError, match="'params' is nested"):
            publish(model_folder, params=nested(depth))


@pytest.mark.thorough
def test_parameters_that_are_too_many(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    for count in (99_995, 100_000, 300_000):
        # With the first one it is the header that has more
        params = {f"k{n}": n for n in range(count)}
        start = time.process_time()
        with pytest.raises(InvalidDataError, match="'params' has more"):
            publish(model_folder, params=params)
        assert time.process_time() - start < 2 or count < 100_000
