"""A catalogue can be stored in the repository that it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import audmodel
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.errors import InvalidInputError
from tests.behaviour.backends import content
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


FOLDER = "/_catalog/"


def test_published_catalogue_is_no_model(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    (model_folder / "README.md").write_text("# About\n")
    uid = publish(model_folder, alias="best", meta={"x": 1})
    before = content(repository)
    catalog = audmodel.build_catalog(repository, publish=True)
    after = content(repository)
    pages = {path: data for path, data in after.items() if path.startswith(FOLDER)}
    assert {path: after[path] for path in set(after) - set(pages)} == before
    assert len(pages) == catalog.written + 1
    assert catalog.url.endswith("/_catalog/index.html")
    assert [model.uid for model in audmodel.models()] == [uid]
    assert audmodel.audit_repository(repository) == []
    assert audmodel.leftovers(repository, min_age=0) == []
    page = pages[f"{FOLDER}models/{uid.split('-')[0]}.html"].decode()
    has_ranges = repository.backend != "plain"
    assert ("model.onnx" in page) == ("About" in page) == has_ranges
    assert ("the storage gives whole files only" in page) != has_ranges


def test_published_catalogue_follows_the_repository(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder)
    audmodel.build_catalog(repository, publish=True)
    assert audmodel.build_catalog(repository, publish=True).written == 0
    newer = publish(model_folder, name="other")
    audmodel.delete(uid)
    catalog = audmodel.build_catalog(repository, publish=True)
    assert (catalog.models, catalog.removed) == (1, 1)
    (page,) = (p for p in content(repository) if p.startswith(f"{FOLDER}models/"))
    assert page == f"{FOLDER}models/{newer.split('-')[0]}.html"


def test_no_model_is_published_into_its_folder(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    with pytest.raises(InvalidInputError, match="'_catalog' is reserved"):
        publish(model_folder, subgroup="_catalog.a")


def test_models_are_listed_with_one_request_for_headers(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = {3: (1, 2), 5: float("inf")}
    uids = [publish(model_folder, name=f"m{n}", params=params) for n in range(3)]
    audmodel.set_alias("best", uids[0])
    audmodel.build_catalog(repository, publish=True)
    audmodel.set_alias("best", uids[1])
    audmodel.set_alias("new", uids[1])
    audmodel.delete(uids[2])
    newer = publish(model_folder, name="m3", alias="newest")
    expected = audmodel.models()
    read = []
    header = Registry.header

    def counted(self: Registry, model: ModelId) -> Any:
        read.append(str(model))
        return header(self, model)

    monkeypatch.setattr(Registry, "header", counted)
    assert audmodel.models(catalog=True) == expected
    assert read == [newer]
    assert [model.aliases for model in expected] == [[], ["best", "new"], ["newest"]]


@pytest.mark.parametrize("damage", ["nothing", "no list", "header", "uid"])
def test_list_that_is_wrong_makes_no_difference(
    repository: audmodel.Repository, model_folder: Path, damage: str
) -> None:
    uid = publish(model_folder, params={"a": 1})
    if damage != "nothing":
        content: dict[str, Any] = {"format": 1, "models": [], "pages": {}}
        if damage == "header":
            content["models"] = [{"uid": uid, "header": "\ud800!!python/name:os"}]
        elif damage == "uid":
            content["models"] = [{"uid": "../1", "header": "x"}]
        data = b"no list" if damage == "no list" else json.dumps(content).encode()
        store(repository, f"{FOLDER}models.json", data)
    assert audmodel.models(catalog=True) == audmodel.models()
