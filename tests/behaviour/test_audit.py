"""What does not fit together in a repository is found, and repaired if it can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audmodel
from audmodel.core.operations import publishing
from audmodel.core.repository.claims import claimed
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.errors import ArchiveMismatchError
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


def kinds(repository: audmodel.Repository, **options: Any) -> list[tuple[str, str]]:
    return [
        (finding.kind, finding.path)
        for finding in audmodel.audit_repository(repository, **options)
    ]


def remove(repository: audmodel.Repository, path: str) -> None:
    """Remove an object behind the back of the registry."""
    with repository.connect() as backend:
        state = backend.stat_object(path)
        assert state is not None
        assert backend.delete_object(path, state.etag)


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(model_folder, subgroup="a.b", alias="best", meta={"x": 1})


@pytest.fixture
def path(uid: str) -> Callable[[str], str]:
    """Path of an object that belongs to the model."""
    short = uid.split("-")[0]
    paths = {
        "header": f"/_uid/{short}/1.0.0/{uid}.header.yaml",
        "meta": f"/_uid/{short}/1.0.0/{uid}.meta.yaml",
        "list": f"/_uid/{short}.aliases/1.0.0/{short}.aliases-1.0.0.yaml",
        "archive": f"/a/b/torch/{short}/1.0.0/{uid}.zip",
    }
    return lambda kind: paths.get(kind, f"/_alias/{kind}/1.0.0/{kind}-1.0.0.alias.yaml")


def test_repository_that_is_right(
    repository: audmodel.Repository, uid: str, model_folder: Path
) -> None:
    newer = publish(model_folder, subgroup="a.b", version="2.0.0", alias="best")
    audmodel.set_alias("old", uid)
    audmodel.update_meta(newer, {"x": 2})
    before = content(repository)
    for repair in (False, True):
        found = audmodel.audit_repository(repository, repair=repair, num_workers=3)
        assert found == []
    assert content(repository) == before


def test_empty_repository(repository: audmodel.Repository) -> None:
    assert audmodel.audit_repository(repository, repair=True) == []


def test_missing_archive(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    model_folder: Path,
) -> None:
    before = content(repository)
    remove(repository, path("archive"))
    (finding,) = audmodel.audit_repository(repository, repair=True)
    assert (finding.kind, finding.path, finding.uid, finding.repaired) == (
        "missing archive",
        path("archive"),
        uid,
        False,
    )
    assert "publish the same folder again" in str(finding)
    with pytest.raises(audmodel.errors.ModelExistsError):
        publish(model_folder, subgroup="a.b")
    # Everything but the archive stays as it is
    options: dict[str, Any] = {"author": "other", "alias": "new", "meta": {"y": 1}}
    assert publish(model_folder, subgroup="a.b", repair=True, **options) == uid
    assert content(repository) == before
    assert audmodel.audit_repository(repository) == []
    assert files(audmodel.load(uid)) == files(model_folder)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"a"])
def test_archive_of_another_size(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    model_folder: Path,
    change: Callable[[bytes], bytes],
) -> None:
    before = content(repository)
    size = len(before[path("archive")])
    data = change(before[path("archive")])
    store(repository, path("archive"), data)
    found = audmodel.audit_repository(repository, repair=True)
    if repository.backend == "plain":
        # A list of a backend of users has no sizes
        assert found == []
        return
    (finding,) = found
    assert (finding.kind, finding.path, finding.uid, finding.repaired) == (
        "archive",
        path("archive"),
        uid,
        False,
    )
    assert f"has {len(data)} bytes, and not {size}" in str(finding)
    publish(model_folder, subgroup="a.b", repair=True)
    assert content(repository) == before
    assert audmodel.audit_repository(repository) == []


def test_archive_that_is_published_anew_during_an_audit(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = content(repository)[path("archive")]
    store(repository, path("archive"), before[:-1])
    header = Registry.header

    def slow_header(self: Registry, model: ModelId) -> Any:
        store(repository, path("archive"), before)
        return header(self, model)

    monkeypatch.setattr(Registry, "header", slow_header)
    assert audmodel.audit_repository(repository) == []


def test_archive_that_is_another_one(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    model_folder: Path,
) -> None:
    before = content(repository)
    store(repository, path("archive"), before[path("archive")][:-100])
    with pytest.raises(audmodel.errors.ArchiveError):
        audmodel.load(uid)
    publish(model_folder, subgroup="a.b", repair=True, num_workers=2)
    assert content(repository) == before
    assert files(audmodel.load(uid)) == files(model_folder)


@pytest.mark.sample(4)
@pytest.mark.parametrize("change", ["file", "name", "compression"])
def test_repair_from_something_else(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    model_folder: Path,
    change: str,
) -> None:
    (model_folder / "model.onnx").write_bytes(b"x" * 20_000)
    version = {"version": "2.0.0"}
    publish(model_folder, subgroup="a.b", **version)
    archive = path("archive").replace("1.0.0", "2.0.0")
    remove(repository, archive)
    before = content(repository)
    options: dict[str, Any] = {}
    if change == "file":
        (model_folder / "model.onnx").write_bytes(b"x" * 20_001)
    elif change == "name":
        (model_folder / "model.onnx").rename(model_folder / "other.onnx")
    else:
        options["compression"] = 0
    with pytest.raises(ArchiveMismatchError, match="gives another archive"):
        publish(model_folder, subgroup="a.b", repair=True, **version, **options)
    assert content(repository) == before


def test_repair_of_what_was_not_published(
    repository: audmodel.Repository, uid: str, model_folder: Path
) -> None:
    before = content(repository)
    with pytest.raises(audmodel.errors.ModelNotFoundError, match="was not published"):
        publish(model_folder, subgroup="a.b", version="2.0.0", repair=True)
    assert content(repository) == before


def test_repair_of_what_is_published_anew(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Withdrawn and published with other files, before the repair claims the ID."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(b"of the one that comes later")

    def late(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(publishing, "claimed", claimed)
        for kind in ("header", "archive", "meta"):
            remove(repository, path(kind))
        assert publish(other, subgroup="a.b") == uid
        return claimed(*args, **kwargs)

    monkeypatch.setattr(publishing, "claimed", late)
    with pytest.raises(audmodel.errors.PublishConflictError, match="was replaced"):
        publish(model_folder, subgroup="a.b", repair=True)
    assert files(audmodel.load(uid)) == files(other)


def test_repair_of_a_model_of_an_earlier_version(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    model_folder: Path,
) -> None:
    header = content(repository)[path("header")]
    store(repository, path("header"), header[: header.index(b"archive:")])
    with pytest.raises(audmodel.errors.InvalidInputError, match="from a backup"):
        publish(model_folder, subgroup="a.b", repair=True)


@pytest.mark.sample(4)
@pytest.mark.parametrize("record", [b"[", b"{}", b"a: !!python/name:os.system ''"])
def test_header_that_cannot_be_read(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    record: bytes,
) -> None:
    store(repository, path("header"), record)
    (finding,) = audmodel.audit_repository(repository)
    assert (finding.kind, finding.path, finding.uid) == ("header", path("header"), uid)


def test_junk_under_the_name_of_a_header(
    repository: audmodel.Repository, uid: str
) -> None:
    short = uid.split("-")[0]
    junk = f"/_uid/{short}/9.0.0/{short}-9.0.0.header.yaml"
    store(repository, junk, b"junk")
    found = kinds(repository)
    assert ("header", junk) in found
    assert ("missing metadata", junk.replace("header", "meta")) in found
    assert len(found) == 2


def test_header_that_leads_to_nothing(
    repository: audmodel.Repository, uid: str, path: Callable[[str], str]
) -> None:
    if repository.backend == "file-system":
        header = Path(repository.host) / f"models{path('header')}"
        header.unlink()
        header.symlink_to("nothing")
        found = audmodel.audit_repository(repository)
        # The model that an alias points to is there
        assert [(f.kind, f.path) for f in found] == [("header", path("header"))]
        assert "is listed, but does not exist" in str(found[0])


def test_metadata(
    repository: audmodel.Repository, uid: str, path: Callable[[str], str]
) -> None:
    store(repository, path("meta"), b"[")
    assert kinds(repository) == [("metadata", path("meta"))]
    remove(repository, path("meta"))
    assert kinds(repository, repair=True) == [("missing metadata", path("meta"))]
    audmodel.update_meta(uid, {"x": 1})
    assert kinds(repository) == []


def test_alias_of_a_missing_model(
    repository: audmodel.Repository, uid: str, path: Callable[[str], str]
) -> None:
    store(repository, path("lost"), b"uid: deadbeef-1.0.0")
    found = audmodel.audit_repository(repository)
    # Nor has the missing model a list of its aliases
    assert [(f.kind, f.uid) for f in found] == [
        ("missing model", "deadbeef-1.0.0"),
        ("list of aliases", "deadbeef-1.0.0"),
    ]
    assert "'lost' points to the model 'deadbeef-1.0.0'" in str(found[0])
    audmodel.set_alias("lost", uid)
    assert [f.kind for f in audmodel.audit_repository(repository)] == []


def test_alias_that_cannot_be_read(
    repository: audmodel.Repository, uid: str, path: Callable[[str], str]
) -> None:
    store(repository, path("best"), b"uid: [")
    # It may well be what the list says
    assert kinds(repository, repair=True) == [("alias", path("best"))]
    audmodel.set_alias("best", uid)
    assert kinds(repository) == []


LISTS = {
    "missing": None,
    "unreadable": b"[",
    "of an unknown form": b"aliases: 5",
    "empty": b"aliases: []",
    "stale": b"aliases: [best, gone, moved, other]",
    "stale and incomplete": b"aliases: [gone, moved]",
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("record", LISTS.values(), ids=LISTS)
def test_lists_of_aliases(
    repository: audmodel.Repository,
    uid: str,
    path: Callable[[str], str],
    model_folder: Path,
    record: bytes | None,
) -> None:
    audmodel.set_alias("other", uid)
    newer = publish(model_folder, subgroup="a.b", version="2.0.0", alias="moved")
    right = content(repository)
    if record is None:
        remove(repository, path("list"))
    else:
        store(repository, path("list"), record)
    damaged = content(repository)
    (finding,) = audmodel.audit_repository(repository)
    assert (finding.kind, finding.path) == ("list of aliases", path("list"))
    assert not finding.repaired
    assert content(repository) == damaged
    (finding,) = audmodel.audit_repository(repository, repair=True, num_workers=2)
    assert finding.repaired
    assert content(repository) == right
    assert audmodel.aliases(uid) == ["best", "other"]
    assert audmodel.aliases(newer) == ["moved"]
    assert audmodel.audit_repository(repository) == []


def test_what_else_is_there_is_left_alone(
    repository: audmodel.Repository, uid: str
) -> None:
    for path in ("/readme.txt", "/attic/_uid/x/y.yaml", "/_uid/readme.txt"):
        store(repository, path, b"x")
    before = content(repository)
    assert audmodel.audit_repository(repository, repair=True) == []
    assert content(repository) == before


def test_arguments(repository: audmodel.Repository) -> None:
    audit: Any = audmodel.audit_repository
    with pytest.raises(TypeError, match="repository"):
        audit(5)
    with pytest.raises(ValueError, match="num_workers"):
        audit(repository, num_workers=0)
