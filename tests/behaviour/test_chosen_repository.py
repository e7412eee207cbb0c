"""A call searches only the repository that it names, in all functions alike."""

from __future__ import annotations

from collections.abc import Callable
import inspect
from pathlib import Path
import re
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.test_public import public_names


# On other storages than folders in the rest of the tests
pytestmark = pytest.mark.sample(1)

FUNCTIONS = {
    name: inspect.signature(getattr(audmodel, name)).parameters
    for name in public_names(audmodel)
    if inspect.isfunction(getattr(audmodel, name))
}
# The arguments that name a model which may be in any repository
MODELS = ("uid", "alias")


def test_every_function_that_takes_a_model_takes_its_repository() -> None:
    for name, parameters in FUNCTIONS.items():
        names = ("source", "target") if name in ("copy", "sync") else ("repository",)
        if next(iter(parameters), "") in MODELS:
            assert set(names) <= set(parameters), name
        for each in names:
            if each in parameters:
                assert "str" in parameters[each].annotation, name


READERS: dict[str, Callable[..., object]] = {
    "aliases": audmodel.aliases,
    "author": audmodel.author,
    "date": audmodel.date,
    "files": audmodel.files,
    "header": audmodel.header,
    "load": audmodel.load,
    "load list": lambda uid, **options: audmodel.load([uid], **options),
    "load files": lambda uid, **options: audmodel.load(
        uid, files="model.yaml", **options
    ),
    "meta": audmodel.meta,
    "name": audmodel.name,
    "open": lambda uid, **options: audmodel.open(uid, "model.yaml", **options).close(),
    "parameters": audmodel.parameters,
    "plan_load": audmodel.plan_load,
    "readme": audmodel.readme,
    "repository": audmodel.repository,
    "stream": lambda uid, **options: list(audmodel.stream(uid, **options)),
    "subgroup": audmodel.subgroup,
    "update_meta": lambda uid, **options: audmodel.update_meta(uid, {}, **options),
    "url": audmodel.url,
    "verify": lambda uid, **options: audmodel.verify(uid, remote=True, **options),
    "version": audmodel.version,
    "latest_version": audmodel.latest_version,
    "set_alias": lambda uid, **options: audmodel.set_alias("other", uid, **options),
}


@pytest.fixture
def uid(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    model_folder: Path,
) -> str:
    """A model of the second repository, which the first one does not have."""
    return publish(model_folder, repository=other_repository, alias="small")


@pytest.mark.sample(6)
@pytest.mark.parametrize("reader", READERS)
def test_another_repository_is_not_asked(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    uid: str,
    reader: str,
) -> None:
    read = READERS[reader]
    for text in (uid, uid.split("-")[0], "small"):
        with pytest.raises(
            audmodel.errors.ModelNotFoundError,
            match=f"does not exist in {re.escape(str(repository))}[.]",
        ):
            read(text, repository=repository)
        with pytest.raises(audmodel.errors.ModelNotFoundError):
            read(text, repository=repository.name)
        read(text, repository="others")
    # Nor if it was configured before, or is not configured at all
    audmodel.config.REPOSITORIES = [repository]
    read(uid, repository=other_repository)
    assert not audmodel.exists("small", repository=repository)
    assert content(repository) == {}


def test_questions_without_error(
    repository: audmodel.Repository, other_repository: audmodel.Repository, uid: str
) -> None:
    for text in (uid, uid.split("-")[0], "small"):
        assert not audmodel.exists(text, repository=repository)
        assert audmodel.exists(text, repository="others")
        assert audmodel.versions(text, repository=repository) == []
        assert audmodel.versions(text, repository=other_repository) == ["1.0.0"]
    with pytest.raises(audmodel.errors.AliasNotFoundError, match=repository.name):
        audmodel.resolve_alias("small", repository=repository)
    assert audmodel.resolve_alias("small", repository="others") == uid
    assert audmodel.all_aliases(repository=repository.name) == {}
    assert audmodel.all_aliases(repository="others") == {"small": uid}
    assert audmodel.models(repository=repository.name) == []
    [model] = audmodel.models(repository="others")
    assert model.uid == uid


def test_the_same_alias_in_two_repositories(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    uid: str,
    model_folder: Path,
) -> None:
    first = publish(model_folder, version="2.0.0", alias="small")
    assert audmodel.resolve_alias("small") == first
    # To name the repository says that the alias is meant to be there
    second = publish(model_folder, version="3.0.0", repository="others")
    audmodel.set_alias("small", second, repository="others")
    assert audmodel.resolve_alias("small", repository="others") == second
    assert audmodel.resolve_alias("small") == first
    assert audmodel.aliases(second, repository="others") == ["small"]
    assert audmodel.aliases(uid, repository="others") == []
    audmodel.load("small")
    audmodel.load("small", repository="others")
    [removed] = audmodel.remove_cached("small", repository="others")
    assert removed.uid == second


@pytest.fixture
def twins(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    uid: str,
    model_folder: Path,
) -> str:
    """The ID of a model of either repository, which are not the same model."""
    (model_folder / "model.yaml").write_bytes(b"another one\n")
    assert publish(model_folder, repository=repository, author="other") == uid
    return uid


@pytest.mark.sample(2)
@pytest.mark.parametrize("reader", ["load", "load files", "load list", "stream"])
def test_another_model_of_the_same_id_in_the_cache(
    repository: audmodel.Repository, twins: str, reader: str
) -> None:
    read = READERS[reader]
    read(twins, repository="others")
    for _ in range(2):
        with pytest.raises(
            audmodel.errors.ArchiveMismatchError, match=r"audmodel\.remove_cached"
        ):
            audmodel.load(twins, repository=repository)
    # Its header is that of the repository that is named
    assert audmodel.author(twins, repository=repository) == "other"
    assert audmodel.author(twins, repository="others") == "tester"
    read(twins, repository="others")
    audmodel.remove_cached(twins)
    root = audmodel.load(twins, repository=repository)
    assert files(root)["model.yaml"] == b"another one\n"


def test_the_same_model_in_two_repositories_is_loaded_once(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    uid: str,
    model_folder: Path,
) -> None:
    with repository.connect() as backend:
        for path, data in content(other_repository).items():
            backend.write_object(path, [data])
    root = audmodel.load(uid, repository="others")
    assert audmodel.load(uid, repository=repository) == root
    assert audmodel.plan_load(uid, repository="others").bytes == 0


def test_offline(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    uid: str,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = publish(model_folder, version="2.0.0", alias="small")
    for name in (None, repository, "others"):
        audmodel.load("small", repository=name)
    monkeypatch.setenv("AUDMODEL_OFFLINE", "1")
    for name, expected in ((repository, first), ("others", uid)):
        root = audmodel.load("small", repository=name)
        assert root == audmodel.load(expected, repository=name)
        assert audmodel.exists(expected, repository=name)


@pytest.mark.parametrize("value", [5, ["models"], b"models"])
def test_what_is_no_repository(uid: str, value: object) -> None:
    readers: list[Any] = [audmodel.load, audmodel.exists, audmodel.versions]
    for read in readers:
        with pytest.raises(TypeError, match="'repository' has to be"):
            read(uid, repository=value)


@pytest.mark.sample(2)
@pytest.mark.parametrize("text", ["", "nobody", "::", "a:b:", "http://host"])
def test_names_of_no_repository(
    repository: audmodel.Repository, uid: str, text: str
) -> None:
    for name, function in (("load", audmodel.load), ("exists", audmodel.exists)):
        with pytest.raises(audmodel.errors.InvalidInputError, match="repository") as e:
            function(uid, repository=text)
        assert repr(text) in str(e.value), name
