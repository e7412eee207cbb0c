"""A catalogue can be stored in the repository that it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

import audmodel
from audmodel.errors import InvalidInputError
from tests.behaviour.backends import content
from tests.behaviour.backends import publish


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
    assert audmodel.leftovers(repository, days=0) == []
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
