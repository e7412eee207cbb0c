"""Aliases are set, moved, and consistent in both directions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


@pytest.fixture
def first(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(model_folder)


def test_all_aliases(
    other_repository: audmodel.Repository,
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    assert audmodel.all_aliases() == {}
    first = publish(model_folder, alias="b")
    second = publish(model_folder, version="2.0.0", repository=other_repository)
    audmodel.set_alias("a", second)
    audmodel.set_alias("c", first)
    lost = b"uid: deadbeef-1.0.0"
    store(repository, "/_alias/d/1.0.0/d-1.0.0.alias.yaml", lost)
    # It is hidden by the one of the first repository
    store(other_repository, "/_alias/c/1.0.0/c-1.0.0.alias.yaml", lost)
    store(other_repository, "/_alias/e/1.0.0/e-1.0.0.alias.yaml", b"[")
    with pytest.warns(UserWarning, match="alias 'e'"):
        targets = audmodel.all_aliases(num_workers=2)
    expected = {"a": second, "b": first, "c": first, "d": "deadbeef-1.0.0"}
    assert targets == expected
    assert list(targets) == sorted(targets)
    only = audmodel.all_aliases(repository=repository)
    assert only == {"b": first, "c": first, "d": "deadbeef-1.0.0"}


def test_alias_of_a_model_that_is_gone(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    lost = b"uid: deadbeef-1.0.0"
    store(repository, "/_alias/lost/1.0.0/lost-1.0.0.alias.yaml", lost)
    readers: list[Callable[[str], object]] = [
        audmodel.load,
        audmodel.header,
        audmodel.meta,
        audmodel.url,
        audmodel.files,
        audmodel.plan_load,
        audmodel.aliases,
        audmodel.latest_version,
        lambda uid: audmodel.load([uid]),
        lambda uid: audmodel.load(uid, files="x"),
        lambda uid: audmodel.open(uid, "x"),
        lambda uid: list(audmodel.stream(uid)),
        lambda uid: audmodel.set_alias("other", uid),
        lambda uid: audmodel.update_meta(uid, {}),
    ]
    for read in readers:
        with pytest.raises(
            audmodel.errors.ModelNotFoundError,
            match=r"alias 'lost' points to the model 'deadbeef-1\.0\.0'",
        ):
            read("lost")
    assert audmodel.resolve_alias("lost") == "deadbeef-1.0.0"


@pytest.mark.sample(4)
@pytest.mark.parametrize("record", [b"aliases: 5", b"[", b"aliases: {a: b}"])
def test_alias_of_a_model_whose_list_is_damaged(
    repository: audmodel.Repository, first: str, record: bytes
) -> None:
    audmodel.set_alias("a", first)
    short = first.split("-")[0]
    path = f"/_uid/{short}.aliases/1.0.0/{short}.aliases-1.0.0.yaml"
    store(repository, path, record)
    audmodel.set_alias("b", first)
    assert audmodel.aliases(first) == ["a", "b"]


@pytest.fixture
def second(first: str, model_folder: Path) -> str:
    (model_folder / "model.onnx").write_bytes(b"second")
    return publish(model_folder, version="2.0.0")


def test_names(first: str) -> None:
    names = ["emotion-small", "a", "A", "1", "a.b", "a_b", "-a", "_a"]
    names += ["a" * 128, "1234567"]
    for alias in names:
        audmodel.set_alias(alias, first)
        assert audmodel.resolve_alias(alias) == first
        assert audmodel.exists(alias)
    assert audmodel.aliases(first) == sorted(names)


def test_alias_at_publication(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, alias="small")
    assert audmodel.resolve_alias("small") == uid
    assert audmodel.aliases(uid) == ["small"]
    newer = publish(model_folder, version="2.0.0", alias="small")
    assert audmodel.resolve_alias("small") == newer
    assert audmodel.aliases(uid) == []
    assert audmodel.aliases(newer) == ["small"]


def test_several_aliases(first: str) -> None:
    for alias in ("c", "a", "b", "a"):
        audmodel.set_alias(alias, first)
    assert audmodel.aliases(first) == ["a", "b", "c"]
    assert audmodel.aliases("b") == ["a", "b", "c"]


def test_move(first: str, second: str) -> None:
    audmodel.set_alias("small", first)
    audmodel.set_alias("large", first)
    assert files(audmodel.load("small"))["model.onnx"] != b"second"
    audmodel.set_alias("small", second)
    assert audmodel.resolve_alias("small") == second
    assert audmodel.resolve_alias("large") == first
    assert audmodel.aliases(first) == ["large"]
    assert audmodel.aliases(second) == ["small"]
    assert files(audmodel.load("small"))["model.onnx"] == b"second"
    # And back
    audmodel.set_alias("small", first)
    assert audmodel.aliases(first) == ["large", "small"]
    assert audmodel.aliases(second) == []


def test_move_is_seen_at_once(
    repository: audmodel.Repository, first: str, second: str, tmp_path: Path
) -> None:
    audmodel.set_alias("small", first)
    assert audmodel.header("small")["version"] == "1.0.0"
    audmodel.set_alias("small", second, cache_root=str(tmp_path / "other"))
    assert audmodel.header("small")["version"] == "2.0.0"
    store(
        repository,
        "/_alias/small/1.0.0/small-1.0.0.alias.yaml",
        f"uid: {first}\n".encode(),
    )
    assert audmodel.resolve_alias("small") == first
    assert audmodel.version("small") == "1.0.0"
    # What the alias says counts, not the list of aliases of a model
    assert audmodel.aliases(second) == []


def test_alias_of_an_alias_is_an_alias_of_the_model(first: str, second: str) -> None:
    audmodel.set_alias("one", first)
    audmodel.set_alias("two", "one")
    audmodel.set_alias("one", second)
    assert audmodel.resolve_alias("two") == first
    assert audmodel.resolve_alias("one") == second


def test_same_alias_again_changes_nothing(
    repository: audmodel.Repository, first: str
) -> None:
    audmodel.set_alias("small", first)
    before = content(repository)
    audmodel.set_alias("small", first)
    assert content(repository) == before


def test_alias_of_the_short_id_stays_at_its_version(
    first: str, model_folder: Path
) -> None:
    audmodel.set_alias("small", first.split("-")[0])
    publish(model_folder, version="2.0.0")
    assert audmodel.resolve_alias("small") == first


def test_missing_alias(repository: audmodel.Repository) -> None:
    with pytest.raises(audmodel.errors.AliasNotFoundError, match="nobody"):
        audmodel.resolve_alias("nobody")
    for read in (audmodel.load, audmodel.header, audmodel.meta, audmodel.aliases):
        with pytest.raises(audmodel.errors.ModelNotFoundError, match="nobody"):
            read("nobody")
    assert not audmodel.exists("nobody")
    assert audmodel.versions("nobody") == []


@pytest.mark.parametrize("target", ["deadbeef-1.0.0", "deadbeef", "nobody"])
def test_alias_of_a_missing_model(repository: audmodel.Repository, target: str) -> None:
    with pytest.raises(audmodel.errors.ModelNotFoundError, match=target):
        audmodel.set_alias("small", target)
    assert content(repository) == {}


def test_alias_that_points_to_a_missing_model(
    repository: audmodel.Repository, first: str
) -> None:
    store(
        repository,
        "/_alias/lost/1.0.0/lost-1.0.0.alias.yaml",
        b"uid: deadbeef-1.0.0\n",
    )
    assert audmodel.resolve_alias("lost") == "deadbeef-1.0.0"
    assert not audmodel.exists("lost")
    with pytest.raises(audmodel.errors.ModelNotFoundError, match=r"deadbeef-1\.0\.0"):
        audmodel.load("lost")
    # It can be set to something better
    audmodel.set_alias("lost", first)
    assert audmodel.resolve_alias("lost") == first


def test_alias_of_an_earlier_repository_is_not_hidden(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    here = publish(model_folder)
    there = publish(model_folder, version="2.0.0", repository=other_repository)
    audmodel.set_alias("small", here)
    with pytest.raises(audmodel.errors.InvalidInputError, match="comes before"):
        audmodel.set_alias("small", there)
    assert audmodel.resolve_alias("small") == here
    # An alias in the later repository is one like any other
    audmodel.set_alias("large", there)
    assert audmodel.resolve_alias("large") == there
    assert audmodel.aliases(there) == ["large"]


@pytest.mark.sample(4)
@pytest.mark.parametrize("data", [b"aliases: 5\n", b"aliases: [", b"- a\n"])
def test_damaged_list_of_aliases(
    repository: audmodel.Repository, first: str, data: bytes
) -> None:
    short = first.split("-")[0]
    path = f"/_uid/{short}.aliases/1.0.0/{short}.aliases-1.0.0.yaml"
    store(repository, path, data)
    with pytest.raises(audmodel.errors.InvalidDocumentError, match=first):
        audmodel.aliases(first)
    # What is no alias in the list is passed over
    store(repository, path, b"aliases: [5, ../../escape, gone, [a]]\n")
    assert audmodel.aliases(first) == []
    audmodel.set_alias("best", first)
    assert audmodel.aliases(first) == ["best"]
