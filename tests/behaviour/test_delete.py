"""Models and aliases are deleted, as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import random
from typing import Any

import pytest

import audmodel
from audmodel import errors
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.operations import index
from audmodel.core.repository import changes
from audmodel.core.repository import claim_record
from audmodel.core.repository import layout
from audmodel.core.repository import model_records
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from tests.behaviour.backends import NUMBER
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


def model_of(uid: str) -> ModelId:
    return ModelId(*uid.split("-"))


def alias_path(name: str) -> str:
    return layout.alias_path(name)


# What is not deleted ---------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize("repository", ["file-system"], indirect=True)
@pytest.mark.parametrize(
    ("uid", "kind", "message"),
    [
        (5, TypeError, "has to be a string, not int"),
        ("a b", errors.InvalidIdError, "neither a model ID"),
        ("deadbeef", errors.InvalidInputError, "stands for all versions"),
        ("prod", errors.InvalidInputError, "is an alias.*delete_alias"),
    ],
)
def test_what_names_no_single_version(
    repository: audmodel.Repository,
    model_folder: Path,
    uid: str,
    kind: type[Exception],
    message: str,
) -> None:
    known = publish(model_folder, alias="prod")
    before = content(repository)
    with pytest.raises(kind, match=message):
        audmodel.delete([known, uid])
    assert content(repository) == before


@pytest.mark.sample(1)
def test_nothing_if_one_of_several_cannot_be_deleted(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    first = publish(model_folder)
    second = publish(model_folder, version="2.0.0", alias="prod")
    audmodel.set_alias("best", second)
    before = content(repository)
    with pytest.raises(errors.ModelNotFoundError, match=r"'deadbeef-1\.0\.0' does not"):
        audmodel.delete([first, "deadbeef-1.0.0"])
    with pytest.raises(errors.ModelNotFoundError, match=r"versions are: 1\.0\.0, 2"):
        audmodel.delete([first, first.replace("1.0.0", "3.0.0")])
    for dry_run in (True, False):
        with pytest.raises(errors.ModelInUseError, match="to it: 'best', 'prod'"):
            audmodel.delete([first, second], dry_run=dry_run)
    audmodel.delete([first, second], aliases=True, dry_run=True)
    with pytest.raises(TypeError, match="'repository' has to be"):
        audmodel.delete(first, repository=NUMBER)
    assert content(repository) == before


@pytest.mark.sample(1)
def test_alias_that_its_list_lacks(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    """Releases that change a list at the same time lose aliases of it."""
    uid = publish(model_folder, alias="prod")
    store(repository, layout.list_path(model_of(uid)), b"aliases: []\n")
    with pytest.raises(errors.ModelInUseError, match="'prod'"):
        audmodel.delete(uid)
    assert audmodel.delete(uid, aliases=True)[0].aliases == ["prod"]
    assert content(repository) == {}


# Models ----------------------------------------------------------------------


def test_delete(repository: audmodel.Repository, model_folder: Path) -> None:
    kept = publish(model_folder, alias="kept", meta={"a": 1})
    before = content(repository)
    uid = publish(model_folder, version="2.0.0", meta={"b": 2})
    assert len(content(repository)) == len(before) + 3
    [model] = audmodel.delete(uid)
    assert model == audmodel.DeletedModel(uid, repository, [])
    assert content(repository) == before
    assert not audmodel.exists(uid)
    assert audmodel.versions(uid) == ["1.0.0"]
    assert [model.uid for model in audmodel.models()] == [kept]
    with pytest.raises(errors.ModelNotFoundError):
        audmodel.load(uid)
    with pytest.raises(errors.ModelNotFoundError):
        audmodel.delete(uid)
    # Another model may get the ID
    (model_folder / "model.onnx").write_bytes(b"other")
    assert publish(model_folder, version="2.0.0") == uid
    assert files(audmodel.load(uid)) == files(model_folder)
    assert audmodel.meta(uid) == {}


@pytest.mark.sample(1)
def test_delete_several_with_aliases(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uids = [
        publish(model_folder, version=f"{number}.0.0", alias=f"of-{number}")
        for number in range(3)
    ]
    audmodel.set_alias("also", uids[1])
    planned = audmodel.delete(uids[1:], aliases=True, dry_run=True)
    assert audmodel.exists(uids[1])
    # Each of them once
    deleted = audmodel.delete((*uids[1:], uids[1]), aliases=True)
    assert deleted == planned
    assert [(model.uid, model.aliases) for model in deleted] == [
        (uids[1], ["also", "of-1"]),
        (uids[2], ["of-2"]),
    ]
    assert audmodel.all_aliases() == {"of-0": uids[0]}
    assert audmodel.audit_repository(repository) == []
    assert audmodel.leftovers(repository, min_age=0) == []


@pytest.mark.sample(1)
def test_model_whose_header_is_damaged(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder)
    store(repository, layout.record_path(model_of(uid), "header"), b"[")
    with pytest.raises(errors.InvalidDocumentError):
        audmodel.load(uid)
    assert [model.uid for model in audmodel.delete(uid)] == [uid]
    assert content(repository) == {}


@pytest.mark.sample(1)
def test_model_without_archive(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder)
    with repository.connect() as backend:
        path = layout.archive_path(model_of(uid), "torch")
        state = backend.stat_object(path)
        assert state is not None
        assert backend.delete_object(path, state.etag)
    audmodel.delete(uid)
    assert content(repository) == {}


@pytest.mark.sample(1)
def test_model_of_several_repositories(
    other_repository: audmodel.Repository,
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = publish(model_folder, repository=other_repository, alias="small")
    publish(model_folder, repository=repository, alias="small")
    with pytest.raises(errors.ModelInUseError, match=f"in '{repository.name}' cannot"):
        audmodel.delete(uid)
    audmodel.delete_alias("small")
    [model] = audmodel.delete(uid)
    assert model.repository == repository
    assert content(repository) == {}
    # Who repeats the calls does not delete the copies
    before = content(other_repository)
    match = f"The repository '{other_repository.name}' has it"
    with pytest.raises(errors.AliasNotFoundError, match=match):
        audmodel.delete_alias("small")
    with pytest.raises(errors.ModelNotFoundError, match=match):
        audmodel.delete(uid)
    assert content(other_repository) == before
    with pytest.raises(errors.ModelNotFoundError, match="does not exist in Repository"):
        audmodel.delete(uid, repository=repository)
    audmodel.delete(uid, repository=other_repository, aliases=True)
    assert content(other_repository) == {}


@pytest.mark.sample(1)
def test_model_in_the_cache_stays(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, alias="prod")
    root = audmodel.load("prod")
    audmodel.delete(uid, aliases=True)
    assert audmodel.load(uid) == root
    assert audmodel.header(uid)["author"] == "tester"
    assert files(root) == files(model_folder)
    with pytest.raises(errors.ModelNotFoundError):
        audmodel.load("prod")
    audmodel.remove_cached(uid)
    with pytest.raises(errors.ModelNotFoundError):
        audmodel.load(uid)


# Interrupted -----------------------------------------------------------------


def interrupted(repository: audmodel.Repository, uid: str, *, steps: int) -> None:
    """Leave what a process leaves that dies after some steps of a deletion."""
    model = model_of(uid)
    archive = layout.archive_path(model, "torch")
    with repository.connect() as backend:
        claim = claim_record.dump(archive, None, may_be_published=True, is_deleted=True)
        assert backend.create_object(layout.record_path(model, "claim"), claim)
        paths = [layout.record_path(model, "header"), archive]
        for path in [*paths, layout.record_path(model, "meta")][:steps]:
            state = backend.stat_object(path)
            assert state is not None
            assert backend.delete_object(path, state.etag)


@pytest.mark.sample(2)
@pytest.mark.parametrize("steps", [1, 0, 2, 3])
def test_interrupted_deletion_is_finished(
    repository: audmodel.Repository, model_folder: Path, steps: int
) -> None:
    uid = publish(model_folder, meta={"a": 1})
    audmodel.set_alias("kept", publish(model_folder, version="2.0.0"))
    before = content(repository)
    for finish in (
        lambda: audmodel.delete(uid),
        lambda: audmodel.leftovers(repository, min_age=0, remove=True),
    ):
        interrupted(repository, uid, steps=steps)
        assert audmodel.exists(uid) == (steps == 0)
        finish()
        if steps:
            assert len(content(repository)) == len(before) - 3
            assert audmodel.leftovers(repository, min_age=0) == []
            # And published, which finishes it as well
            publish(model_folder, meta={"a": 1})
            interrupted(repository, uid, steps=steps)
            publish(model_folder, meta={"a": 1})
        elif not audmodel.exists(uid):
            publish(model_folder, meta={"a": 1})
        assert content(repository).keys() == before.keys()
        assert audmodel.meta(uid) == {"a": 1}


@pytest.mark.sample(1)
def test_interrupted_deletion_leaves_no_alias(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    """A model with aliases is deleted only together with them."""
    uid = audmodel.uid("torch", {"sampling_rate": 16000}, "1.0.0")
    for finish in (
        lambda: audmodel.delete(uid),
        lambda: audmodel.leftovers(repository, min_age=0, remove=True),
    ):
        publish(model_folder, alias="prod")
        interrupted(repository, uid, steps=1)
        with pytest.raises(errors.ModelNotFoundError, match="alias 'prod' points to"):
            audmodel.load("prod")
        finish()
        assert content(repository) == {}


@pytest.mark.parametrize("repository", ["file-system"], indirect=True)
@pytest.mark.parametrize("ending", [".header.yaml", ".zip", ".meta.yaml"])
def test_deletion_that_fails(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
) -> None:
    uid = publish(model_folder, meta={"a": 1})
    before = content(repository)
    delete_object = FileSystem.delete_object

    def fail(self: FileSystem, path: str, etag: str) -> bool:
        if path.endswith(ending):
            raise errors.RepositoryError("Access is denied.")
        return delete_object(self, path, etag)

    with monkeypatch.context() as patch:
        patch.setattr(FileSystem, "delete_object", fail)
        with pytest.raises(errors.RepositoryError, match="Access is denied"):
            audmodel.delete(uid)
    if ending == ".header.yaml":
        assert content(repository) == before
        return
    assert not audmodel.exists(uid)
    [claim] = [
        left
        for left in audmodel.leftovers(repository, min_age=0)
        if left.kind == "claim"
    ]
    assert claim.uid == uid
    assert all(left.proven for left in audmodel.leftovers(repository, min_age=0))
    assert [model.uid for model in audmodel.delete(uid)] == [uid]
    assert content(repository) == {}


@pytest.mark.sample(1)
def test_claim_that_names_a_foreign_archive(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    other = publish(model_folder)
    path = layout.archive_path(model_of(other), "torch")
    claim = claim_record.dump(path, None, is_deleted=True)
    dead = ModelId("deadbeef", "1.0.0")
    store(repository, layout.record_path(dead, "claim"), claim)
    with pytest.raises(errors.ModelNotFoundError):
        audmodel.delete(str(dead))
    audmodel.leftovers(repository, min_age=0, remove=True)
    assert files(audmodel.load(other)) == files(model_folder)


# Aliases ---------------------------------------------------------------------


@pytest.mark.sample(2)
def test_delete_alias(
    other_repository: audmodel.Repository,
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = publish(model_folder, alias="prod")
    audmodel.set_alias("best", uid)
    other = publish(model_folder, version="2.0.0", repository=other_repository)
    audmodel.set_alias("other", other)
    with pytest.raises(errors.AliasNotFoundError, match="'none' does not exist"):
        audmodel.delete_alias("none")
    with pytest.raises(errors.AliasNotFoundError, match="not an allowed name"):
        audmodel.delete_alias(uid)
    with pytest.raises(errors.AliasNotFoundError, match="in Repository"):
        audmodel.delete_alias("prod", repository=other_repository)
    with pytest.raises(TypeError, match="has to be a string"):
        audmodel.delete_alias(NUMBER)
    assert audmodel.delete_alias("prod") == uid
    assert audmodel.aliases(uid) == ["best"]
    with pytest.raises(errors.AliasNotFoundError):
        audmodel.delete_alias("prod")
    assert audmodel.delete_alias("other", repository=other_repository) == other
    assert audmodel.all_aliases() == {"best": uid}
    assert audmodel.audit_repository(repository) == []
    audmodel.set_alias("prod", uid)
    assert audmodel.aliases(uid) == ["best", "prod"]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("record", "target"), [(b"uid: deadbeef-1.0.0", "deadbeef-1.0.0"), (b"[", "")]
)
def test_delete_alias_of_no_model(
    repository: audmodel.Repository, record: bytes, target: str
) -> None:
    store(repository, alias_path("lost"), record)
    assert audmodel.delete_alias("lost") == target
    assert content(repository) == {}


# At the same time ------------------------------------------------------------


@pytest.mark.sample(1)
def test_alias_that_is_set_while_its_model_is_deleted(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = publish(model_folder)
    uid = publish(model_folder, version="2.0.0")
    audmodel.set_alias("old", kept)
    before = audmodel.all_aliases()
    change_list: Callable[..., None] = Registry._change_list

    def delete_first(registry: Registry, model: ModelId, **kwargs: object) -> None:
        if str(model) == uid and audmodel.exists(uid):
            audmodel.delete(uid)
        change_list(registry, model, **kwargs)

    for name in ("new", "old"):
        if not audmodel.exists(uid):
            publish(model_folder, version="2.0.0")
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "_change_list", delete_first)
            with pytest.raises(
                errors.ModelNotFoundError, match=f"'{name}' was not set"
            ):
                audmodel.set_alias(name, uid)
        assert audmodel.all_aliases() == before


@pytest.mark.sample(1)
def test_alias_that_is_set_while_it_is_deleted(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The list of the model has it, also if another process comes last."""
    uid = publish(model_folder, alias="prod")
    change_list: Callable[..., None] = Registry._change_list

    def delete_last(registry: Registry, model: ModelId, **kwargs: object) -> None:
        change_list(registry, model, **kwargs)
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "_change_list", change_list)
            if deleted:
                audmodel.delete_alias(deleted.pop())

    deleted = ["prod"]
    monkeypatch.setattr(Registry, "_change_list", delete_last)
    audmodel.set_alias("prod", uid)
    assert not deleted
    assert audmodel.aliases(uid) == ["prod"]
    assert audmodel.audit_repository(repository) == []


@pytest.mark.sample(1)
def test_metadata_that_is_changed_while_its_model_is_deleted(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    merge = changes.merge

    def delete_first(current: Any, update: Any) -> Any:
        if audmodel.exists(uid):
            audmodel.delete(uid)
        return merge(current, update)

    uid = publish(model_folder, meta={"a": 1})
    monkeypatch.setattr(model_records, "merge", delete_first)
    with pytest.raises(errors.ModelNotFoundError, match="was deleted"):
        audmodel.update_meta(uid, {"b": 2})
    assert content(repository) == {}


@pytest.mark.sample(2)
@pytest.mark.parametrize("is_open", [False, True])
def test_load_while_the_model_is_deleted(
    repository: audmodel.Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_open: bool,
) -> None:
    """It finishes, or says what happened."""
    root = tmp_path / "large"
    root.mkdir()
    (root / "weights").write_bytes(random.Random(1).randbytes(3_000_000))
    uid = publish(root)
    keep: Callable[..., None] = index.keep
    open_archive: Callable[..., object] = Registry.open_archive

    def delete() -> None:
        if audmodel.exists(uid):
            audmodel.delete(uid)

    def keep_last(entry: object, content: object) -> None:
        keep(entry, content)
        delete()

    def open_last(*args: object) -> object:
        delete()
        return open_archive(*args)

    if is_open:
        monkeypatch.setattr(index, "keep", keep_last)
    else:
        monkeypatch.setattr(Registry, "open_archive", open_last)
    # A file that is open can be read, and so can a copy of the whole archive
    if is_open and repository.backend in ("file-system", "plain"):
        assert files(audmodel.load(uid)) == files(root)
    else:
        with pytest.raises(errors.ModelNotFoundError, match="was deleted from"):
            audmodel.load(uid)
        assert audmodel.cached() == [] or audmodel.cached()[0].unfinished
    with pytest.raises(errors.ModelNotFoundError):
        audmodel.load(uid, cache_root=str(tmp_path / "other"))
