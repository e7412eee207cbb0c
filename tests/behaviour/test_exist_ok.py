"""Publish what may have been published before, as jobs do that run twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import audmodel
from audmodel.errors import ArchiveError
from audmodel.errors import InvalidDocumentError
from audmodel.errors import InvalidInputError
from audmodel.errors import ModelExistsError
from tests.behaviour.backends import content
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


def test_same_files_give_the_id_and_the_alias(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    arguments = {"subgroup": "emotion", "exist_ok": True}
    uid = publish(model_folder, **arguments, meta={"a": 1}, alias="first")
    before = content(repository)
    # Neither modification times nor compression are content
    (model_folder / "model.yaml").touch()
    again = publish(
        model_folder, **arguments, alias="second", author="other", compression=9
    )
    assert again == uid
    assert audmodel.resolve_alias("second") == uid
    assert audmodel.aliases(uid) == ["first", "second"]
    assert (audmodel.author(uid), audmodel.meta(uid)) == ("tester", {"a": 1})
    after = content(repository)
    assert {path: after[path] for path in before if "alias" not in path} == {
        path: data for path, data in before.items() if "alias" not in path
    }


def test_other_files_are_named_and_nothing_is_stored(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    (model_folder / "run.sh").write_bytes(b"#!/bin/sh\n")
    publish(model_folder)
    before = content(repository)
    (model_folder / "new.bin").write_bytes(b"new")
    (model_folder / "readme.txt").unlink()
    (model_folder / "log" / "eval.yaml").write_bytes(b"uar: 0.74\n")
    (model_folder / "model.yaml").write_bytes(b"longer than it was before\n" * 9)
    (model_folder / "run.sh").chmod(0o755)
    for call in (publish, _plan):
        with pytest.raises(ModelExistsError) as info:
            call(model_folder, exist_ok=True)
        for words in (
            "added: 'new.bin'",
            "missing: 'readme.txt'",
            "changed: 'log/eval.yaml', 'model.yaml'",
            "permission to execute changed: 'run.sh'",
            "Publish under another version",
        ):
            assert words in str(info.value)
        assert "model.onnx" not in str(info.value)
    assert content(repository) == before


def _plan(root: Path, **options: Any) -> audmodel.Transfer:
    params = {"sampling_rate": 16000}
    return audmodel.plan_publish(str(root), "torch", params, "1.0.0", **options)


def test_plan_of_what_exists_sends_nothing(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    assert _plan(model_folder, exist_ok=True) == _plan(model_folder)
    publish(model_folder)
    planned = _plan(model_folder, exist_ok=True)
    assert (planned.files, planned.bytes, planned.requests) == (4, 0, 0)


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", ["header", "archive", "other header"])
def test_model_that_is_damaged(
    repository: audmodel.Repository, model_folder: Path, name: str
) -> None:
    uid = publish(model_folder)
    [header] = [path for path in content(repository) if ".header." in path]
    [archive] = [path for path in content(repository) if path.endswith(".zip")]
    error: type[Exception]
    if name == "header":
        store(repository, header, b"[")
        error, message = InvalidDocumentError, "The header of model"
    elif name == "archive":
        with repository.connect() as backend:
            found = backend.stat_object(archive)
            assert found is not None
            backend.delete_object(archive, found.etag)
        error, message = ArchiveError, "Store it again with 'repair'"
    else:
        (model_folder / "model.yaml").write_bytes(b"other")
        other = publish(model_folder, version="2.0.0")
        newer = archive.replace(uid, other).replace("1.0.0", "2.0.0")
        store(repository, archive, content(repository)[newer])
        error, message = ArchiveError, "not the one that was published"
    with pytest.raises(error, match=message):
        publish(model_folder, exist_ok=True)


def test_repair_and_exist_ok_exclude_each_other(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    with pytest.raises(InvalidInputError, match="either 'repair' or 'exist_ok'"):
        publish(model_folder, exist_ok=True, repair=True)
    assert content(repository) == {}
