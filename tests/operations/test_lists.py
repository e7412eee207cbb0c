"""Functions that take a model take several as well, and all in the same way."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
from typing import Any

import filelock
import pytest

import audmodel
from audmodel.cli import main
from audmodel.core.backend.filesystem import FileSystem
from audmodel.errors import AliasNotFoundError
from audmodel.errors import CacheBusyError
from audmodel.errors import ModelNotFoundError
from audmodel.errors import NotCachedError
from audmodel.errors import RepositoryError
from tests.behaviour.backends import content
from tests.behaviour.backends import publish


MISSING = "deadbeef-1.0.0"


@pytest.fixture
def uids(repository: audmodel.Repository, model_folder: Path) -> list[str]:
    """Models, the newest first, of which the first one has an alias."""
    found = [publish(model_folder, version=f"{n}.0.0") for n in (3, 1, 2)]
    audmodel.set_alias("best", found[0])
    return found


@pytest.fixture
def target(repository: audmodel.Repository) -> audmodel.Repository:
    """Repository to copy to."""
    Path(repository.host, "target").mkdir()
    return audmodel.Repository("target", repository.host, "file-system")


def copy(uid: Any, target: audmodel.Repository) -> Any:
    return audmodel.copy(uid, audmodel.config.REPOSITORIES[0], target)


def uid_of(result: Any) -> str:
    """Model that a result is about."""
    if isinstance(result, str):
        return "-".join(Path(result).parts[-2:])
    return str(result.uid)


Function = Callable[[Any, audmodel.Repository], Any]
# One result for each ID that is given
EACH: dict[str, Function] = {
    "load": lambda uid, _: audmodel.load(uid, num_workers=2),
    "plan_load": lambda uid, _: audmodel.plan_load(uid),
    "verify": lambda uid, _: audmodel.verify(uid, num_workers=2),
    "verify remote": lambda uid, _: audmodel.verify(uid, remote=True),
    "verify and repair": lambda uid, _: audmodel.verify(uid, repair=True),
}
# One result for each model that changes
CHANGED: dict[str, Function] = {
    "copy": copy,
    "delete": lambda uid, _: audmodel.delete(uid, aliases=True),
    "remove_cached": lambda uid, _: audmodel.remove_cached(uid),
}


@pytest.mark.parametrize("name", EACH)
def test_results_have_the_order_of_the_ids(
    uids: list[str], target: audmodel.Repository, name: str
) -> None:
    audmodel.load(uids)
    results = EACH[name](["best", *uids, uids[1]], target)
    assert [uid_of(result) for result in results] == [uids[0], *uids, uids[1]]
    assert EACH[name]((), target) == []
    assert uid_of(EACH[name](uids[2], target)) == uids[2]


@pytest.mark.parametrize("name", CHANGED)
def test_each_change_is_told_once_and_in_order(
    uids: list[str], target: audmodel.Repository, name: str
) -> None:
    audmodel.load(uids)
    results = CHANGED[name]((*uids, uids[1]), target)
    assert [uid_of(result) for result in results] == uids
    assert CHANGED[name]([], target) == []


@pytest.mark.parametrize("name", [*EACH, *CHANGED])
def test_nothing_happens_if_one_model_does_not_exist(
    repository: audmodel.Repository,
    target: audmodel.Repository,
    uids: list[str],
    name: str,
) -> None:
    if name != "load":
        audmodel.load(uids)
    if "verify" in name:
        Path(audmodel.load(uids[0]), "readme.txt").unlink()
    before = [content(repository), content(target), audmodel.cached()]
    with pytest.raises((ModelNotFoundError, NotCachedError), match=MISSING):
        {**EACH, **CHANGED}[name]([*uids, MISSING], target)
    after = [content(repository), content(target), audmodel.cached()]
    assert after == before


@pytest.mark.parametrize("name", [*EACH, *CHANGED])
def test_list_of_something_else(
    uids: list[str], target: audmodel.Repository, name: str
) -> None:
    audmodel.load(uids)
    for wrong in (1, None, ["x"], b"x"):
        with pytest.raises(TypeError):
            {**EACH, **CHANGED}[name]([uids[0], wrong], target)
    assert len(audmodel.models()) == len(audmodel.cached()) == 3


def test_damage_of_each_model_is_told_and_repaired(uids: list[str]) -> None:
    roots = audmodel.load(uids)
    for root in roots[:2]:
        Path(root, "readme.txt").unlink()
    assert [result.ok for result in audmodel.verify(uids)] == [False, False, True]
    results = audmodel.verify(uids, repair=True)
    assert [result.repaired for result in results] == [True, True, False]
    assert all(os.path.exists(f"{root}/readme.txt") for root in roots)


# Cache ---------------------------------------------------------------------


def test_dry_run_of_a_removal(uids: list[str]) -> None:
    audmodel.load(uids)
    would = audmodel.remove_cached(uids, dry_run=True)
    assert audmodel.cached() == would[1:] + would[:1]
    assert audmodel.remove_cached(uids) == would
    assert audmodel.cached() == []


def test_short_ids_and_models_of_one_list(uids: list[str]) -> None:
    audmodel.load(uids)
    removed = audmodel.remove_cached([uids[0], uids[0].split("-")[0], "best"])
    assert [model.uid for model in removed] == [uids[0], *sorted(uids[1:])]


@pytest.mark.parametrize("dry_run", [True, False])
def test_removal_that_fails_tells_what_was_removed(
    uids: list[str], capfd: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    root = Path(audmodel.load(uids)[2])
    options = ["--dry-run"] if dry_run else []
    with filelock.FileLock(root.parent / f".{root.name}.lock"):
        with pytest.raises(CacheBusyError, match=uids[2]) as info:
            audmodel.remove_cached([uids[0], uids[2]], dry_run=dry_run)
        notes = getattr(info.value, "__notes__", [])
        assert notes == ([] if dry_run else [f"Removed before: {uids[0]}."])
        assert main(["cache", "rm", uids[1], uids[2], *options]) == 6
    error = capfd.readouterr().err
    assert error.rstrip().endswith(f"Removed before: {uids[1]}.") is not dry_run
    assert len(audmodel.cached()) == (3 if dry_run else 1)


# Repository ----------------------------------------------------------------


def test_deletion_that_fails_tells_what_was_deleted(
    uids: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    refuse(monkeypatch, "2.0.0.header.yaml")
    with pytest.raises(RepositoryError, match="Access is denied"):
        audmodel.delete(uids[2])
    assert main(["delete", uids[1], uids[2]]) == 4
    text = f"error: Access is denied. Deleted before: {uids[1]}.\n"
    assert capfd.readouterr().err.endswith(text)


def test_several_aliases(uids: list[str], repository: audmodel.Repository) -> None:
    audmodel.set_alias("worst", uids[1])
    before = content(repository)
    with pytest.raises(AliasNotFoundError, match="'none' does not exist"):
        audmodel.delete_alias(["best", "none", "worst"])
    with pytest.raises(TypeError):
        audmodel.delete_alias(["best", 1])  # type: ignore[list-item]
    assert content(repository) == before
    assert audmodel.delete_alias([]) == []
    assert audmodel.delete_alias(("worst", "best")) == [uids[1], uids[0]]
    assert audmodel.all_aliases() == {}


def test_alias_that_cannot_be_deleted_names_those_that_were(
    uids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    audmodel.set_alias("worst", uids[1])
    refuse(monkeypatch, "worst-1.0.0.alias.yaml")
    with pytest.raises(RepositoryError) as info:
        audmodel.delete_alias(["best", "worst"])
    assert info.value.__notes__ == ["Deleted before: best."]
    assert audmodel.all_aliases() == {"worst": uids[1]}


def refuse(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Let the storage refuse to delete one record."""
    delete_object = FileSystem.delete_object

    def delete(self: FileSystem, path: str, etag: str) -> bool:
        if path.endswith(ending):
            raise RepositoryError("Access is denied.")
        return delete_object(self, path, etag)

    monkeypatch.setattr(FileSystem, "delete_object", delete)
