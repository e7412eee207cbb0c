"""Models are copied from one repository to another one, byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import os
from pathlib import Path
import random
import threading
import time
from typing import NoReturn

import pytest

import audmodel
from audmodel import errors
from audmodel.core.archive import format
from audmodel.core.archive.passing import Passer
from audmodel.core.backend import file_copies
from audmodel.core.operations import copying
from audmodel.core.process import requests
from audmodel.core.repository import claim_record
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from tests.backends import seaweedfs
from tests.behaviour.backends import NUMBER
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


Repositories = tuple[audmodel.Repository, audmodel.Repository]


@pytest.fixture
def other(repository: audmodel.Repository, tmp_path: Path) -> audmodel.Repository:
    """An empty repository in a folder, which is not configured."""
    host = tmp_path / "other"
    (host / "others").mkdir(parents=True)
    return audmodel.Repository("others", str(host), "file-system")


@pytest.fixture(params=["to a folder", "from a folder"])
def pair(
    request: pytest.FixtureRequest,
    repository: audmodel.Repository,
    other: audmodel.Repository,
) -> Repositories:
    """A repository with models, and one that gets them."""
    return (
        (repository, other) if request.param == "to a folder" else (other, repository)
    )


@pytest.fixture
def folders(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> Repositories:
    """Two repositories in folders."""
    pair = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        pair.append(audmodel.Repository(name, str(tmp_path), "file-system"))
    audmodel.config.REPOSITORIES = pair
    return pair[0], pair[1]


@pytest.fixture
def large_folder(tmp_path: Path) -> Path:
    """A model that S3 storages keep in several parts."""
    root = tmp_path / "large"
    root.mkdir()
    pattern = random.Random(1)
    (root / "weights").write_bytes(pattern.randbytes(9_000_000))
    (root / "text").write_bytes(bytes(pattern.choices(b"0123456789", k=6_000_000)))
    (root / "empty").write_bytes(b"")
    return root


def model_of(uid: str) -> ModelId:
    return ModelId(*uid.split("-"))


def archive_of(uid: str) -> str:
    return layout.archive_path(model_of(uid), "torch")


def lists_sizes(*repositories: audmodel.Repository) -> bool:
    """Whether the lists of all of them tell the sizes of objects."""
    sizes: list[int | None] = []
    for repository in repositories:
        with repository.connect() as backend:
            sizes += backend.object_sizes("/").values()
    return None not in sizes


def forget_identity(repository: audmodel.Repository, uid: str) -> None:
    """Let a header be one of an earlier release, which does not name the archive."""
    path = layout.record_path(model_of(uid), "header")
    header = content(repository)[path]
    store(repository, path, header[: header.index(b"archive:")])


# What is not copied ----------------------------------------------------------


def test_nothing_if_one_of_several_cannot_be_copied(
    folders: Repositories, model_folder: Path
) -> None:
    source, target = folders
    uid = publish(model_folder, repository=source)
    publish(model_folder, version="2.0.0", repository=source)
    (model_folder / "model.onnx").write_bytes(b"another")
    taken = publish(model_folder, params={}, repository=target)
    (model_folder / "model.onnx").write_bytes(b"one")
    source_2 = audmodel.Repository("first", f"{source.host}/", "file-system")
    before = content(target)
    audmodel.config.REPOSITORIES = [source]
    publish(model_folder, params={}, repository=source, author="zoe")
    for uids, kind, message in (
        ([uid, "deadbeef-1.0.0"], errors.ModelNotFoundError, "'deadbeef-1.0.0' does"),
        ([uid, "deadbeef"], errors.ModelNotFoundError, "'deadbeef' does not exist"),
        ([uid, "none"], errors.AliasNotFoundError, "'none' does not exist in Repo"),
        ([uid, "a b"], errors.InvalidIdError, "neither a model ID"),
        ([uid, taken], errors.ModelExistsError, "by 'tester'.*another.*by 'zoe'"),
    ):
        with pytest.raises(kind, match=message):
            audmodel.copy(uids, source, target)
    with pytest.raises(errors.InvalidInputError, match="to itself"):
        audmodel.copy(uid, source, source_2)
    with pytest.raises(TypeError, match="'repository' has to be"):
        audmodel.copy(uid, source, NUMBER)
    missing = audmodel.Repository("none", source.host, "file-system")
    with pytest.raises(errors.RepositoryError, match="does not exist"):
        audmodel.copy(uid, source, missing)
    assert content(target) == before


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("missing", errors.ArchiveError),
        ("other", errors.ArchiveMismatchError),
        ("member", errors.ArchiveError),
    ],
)
def test_damaged_archive(
    pair: Repositories,
    model_folder: Path,
    damage: str,
    kind: type[Exception],
) -> None:
    source, target = pair
    uid = publish(model_folder, repository=source)
    archive = bytearray(content(source)[archive_of(uid)])
    if damage == "missing":
        with source.connect() as backend:
            state = backend.stat_object(archive_of(uid))
            assert state is not None
            backend.delete_object(archive_of(uid), state.etag)
    else:
        # In the data of a file, or of the directory
        place = archive.index(b"uar") if damage == "member" else len(archive) - 30
        archive[place] ^= 1
        store(source, archive_of(uid), bytes(archive))
    with pytest.raises(kind, match=archive_of(uid) if damage != "member" else "eval"):
        audmodel.copy(uid, source, target)
    assert content(target) == {}


def test_other_models_are_completed_after_an_error(
    folders: Repositories, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folders
    uids = [
        publish(model_folder, version=f"{number}.0.0", repository=source)
        for number in range(3)
    ]
    os.remove(f"{source.host}/{source.name}{archive_of(uids[1])}")
    has_failed = threading.Event()
    chunks = Passer.chunks

    def late(passer: Passer) -> Iterator[bytes]:
        assert has_failed.wait(10)
        time.sleep(0.2)
        assert not requests.cancelled()
        yield from chunks(passer)

    def fail(*args: object) -> errors.ArchiveError:
        has_failed.set()
        return errors.ArchiveError("It is missing.")

    monkeypatch.setattr(Passer, "chunks", late)
    monkeypatch.setattr(copying, "no_archive", fail)
    with pytest.raises(errors.ArchiveError, match="It is missing"):
        audmodel.copy(uids, source, target, num_workers=2)
    audmodel.config.REPOSITORIES = [target]
    assert files(audmodel.load(uids[0])) == files(model_folder)
    assert audmodel.leftovers(target, min_age=0) == []


@pytest.mark.parametrize("part_size", [format.PART_SIZE, 1])
def test_damaged_models_do_not_stop_the_others(
    folders: Repositories,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    part_size: int,
) -> None:
    monkeypatch.setattr(format, "PART_SIZE", part_size)
    source, target = folders
    audmodel.config.REPOSITORIES = [source]
    uids = [
        publish(model_folder, version=f"{number}.0.0", alias=f"v{number}")
        for number in range(4)
    ]
    for uid in (uids[0], uids[2]):
        archive = bytearray(content(source)[archive_of(uid)])
        archive[archive.index(b"uar")] ^= 1
        store(source, archive_of(uid), bytes(archive))
    with pytest.raises(errors.ArchiveError) as caught:
        audmodel.sync(source, target, aliases=True)
    assert f"The archive of model '{uids[0]}' at '{source.host}" in str(caught.value)
    assert caught.value.__notes__ == [
        f"Not copied: {uids[0]}, {uids[2]}.",
        f"Copied before: {uids[1]}, {uids[3]}.",
    ]
    assert audmodel.all_aliases(repository=target) == {"v1": uids[1], "v3": uids[3]}
    assert audmodel.audit_repository(target) == []
    assert audmodel.leftovers(target, min_age=0) == []


def test_storage_that_copies_wrongly(
    folders: Repositories, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folders
    uid = publish(model_folder, repository=source)

    def write(fd: int, source: tuple[int, int]) -> None:
        os.write(fd, bytes(source[1]))

    monkeypatch.setattr(file_copies, "pays", lambda *_: True)
    monkeypatch.setattr(file_copies, "write_file", write)
    with pytest.raises(errors.RepositoryError, match="is not what was copied"):
        audmodel.copy(uid, source, target)
    assert content(target) == {}


# Copies ----------------------------------------------------------------------


@pytest.mark.sample(3)
def test_copy(pair: Repositories, model_folder: Path) -> None:
    source, target = pair
    uid = publish(model_folder, repository=source, meta={"a": 1}, subgroup="a.b")
    publish(model_folder, repository=source, version="2.0.0", subgroup="a.b")
    objects = content(source)
    wanted = {path: data for path, data in objects.items() if "2.0.0" not in path}
    planned = audmodel.copy(uid, source, target, dry_run=True)
    assert content(target) == {}
    copied = audmodel.copy([uid, uid], source, target)
    assert copied == planned
    [archive] = [data for path, data in wanted.items() if path.endswith(".zip")]
    assert copied == [audmodel.CopiedModel(uid, target, len(archive), True, [])]
    assert content(target) == wanted
    # As often as one likes
    [again] = audmodel.copy(uid, source, target)
    assert not again.copied
    assert content(target) == wanted
    audmodel.config.REPOSITORIES = [target]
    assert files(audmodel.load(uid)) == files(model_folder)
    assert audmodel.audit_repository(target) == []
    # Without version it is the latest one
    [latest] = audmodel.copy(uid.split("-")[0], source, target)
    assert latest.uid.endswith("-2.0.0")
    assert content(target) == objects == content(source)


@pytest.mark.sample(1)
@pytest.mark.parametrize("num_workers", [3, 1])
def test_copy_of_a_large_model_of_an_earlier_release(
    pair: Repositories,
    large_folder: Path,
    released_archive: Callable[[Path], bytes],
    num_workers: int,
) -> None:
    source, target = pair
    uid = publish(large_folder, repository=source)
    forget_identity(source, uid)
    store(source, archive_of(uid), released_archive(large_folder))
    [copied] = audmodel.copy(uid, source, target, num_workers=num_workers)
    assert content(target) == content(source)
    assert copied.size == len(content(source)[archive_of(uid)])


@pytest.fixture
def released_archive() -> Callable[[Path], bytes]:
    """Archive as earlier releases make it, without an index."""
    from tests.archive.tools import write_old

    return lambda root: write_old(files(root))


def test_aliases(folders: Repositories, model_folder: Path) -> None:
    source, target = folders
    audmodel.config.REPOSITORIES = [source]
    first = publish(model_folder, alias="prod")
    second = publish(model_folder, version="2.0.0", alias="best")
    audmodel.copy("prod", source, target)
    assert audmodel.all_aliases(repository=target) == {}
    copied = audmodel.copy([first, second], source, target, aliases=True)
    assert [(model.copied, model.aliases) for model in copied] == [
        (False, ["prod"]),
        (True, ["best"]),
    ]
    targets = {"best": second, "prod": first}
    assert audmodel.all_aliases(repository=target) == targets
    # One that points elsewhere is moved only if this is asked for
    audmodel.set_alias("best", first)
    for dry_run in (True, False):
        with pytest.warns(UserWarning, match="'best' points to .* It stays"):
            [kept] = audmodel.copy(first, source, target, aliases=True, dry_run=dry_run)
        assert (kept.aliases, kept.kept) == ([], ["best"])
    assert audmodel.all_aliases(repository=target) == targets
    [moved] = audmodel.copy(first, source, target, move_aliases=True)
    assert (moved.aliases, moved.kept) == (["best"], [])
    assert audmodel.all_aliases(repository=target) == {"best": first, "prod": first}
    assert audmodel.audit_repository(target) == []


@pytest.mark.sample(1)
def test_what_a_dead_process_left_is_replaced(
    pair: Repositories, model_folder: Path
) -> None:
    source, target = pair
    uid = publish(model_folder, repository=source)
    path = archive_of(uid)
    claim = claim_record.dump(path, None)
    store(target, layout.record_path(model_of(uid), "claim"), claim)
    store(target, path, b"half")
    store(target, layout.record_path(model_of(uid), "meta"), b"a: 1")
    audmodel.copy(uid, source, target)
    assert content(target) == content(source)


def test_lost_archive_is_copied_again(
    folders: Repositories, model_folder: Path
) -> None:
    source, target = folders
    uid = publish(model_folder, repository=source)
    audmodel.copy(uid, source, target)
    os.remove(f"{target.host}/{target.name}{archive_of(uid)}")
    assert [finding.kind for finding in audmodel.audit_repository(target)] == [
        "missing archive"
    ]
    assert [model.copied for model in audmodel.sync(source, target)] == [True]
    assert content(target) == content(source)


@pytest.mark.sample(2)
@pytest.mark.parametrize("damage", ["truncated", "bytes are missing"])
@pytest.mark.parametrize("is_old", [False, True])
def test_archive_of_another_size_is_copied_again(
    pair: Repositories, model_folder: Path, damage: str, is_old: bool
) -> None:
    source, target = pair
    uids = [
        publish(model_folder, version=version, repository=source)
        for version in ("1.0.0", "2.0.0")
    ]
    if is_old:
        for uid in uids:
            forget_identity(source, uid)
    audmodel.copy(uids, source, target)
    assert audmodel.sync(source, target) == []
    for by_list, uid in ((lists_sizes(*pair), uids[0]), (False, uids[1])):
        archive = content(source)[archive_of(uid)]
        wrong = archive[:100] if damage == "truncated" else archive[:50] + archive[90:]
        store(target, archive_of(uid), wrong)
        for dry_run in (True, False):
            if by_list:
                [again] = audmodel.sync(source, target, dry_run=dry_run)
            else:
                [again] = audmodel.copy(uid, source, target, dry_run=dry_run)
            assert (again.uid, again.copied) == (uid, True)
        assert content(target) == content(source)
    # A source that is damaged says nothing about the target
    before = content(target)
    store(source, archive_of(uids[0]), wrong)
    assert audmodel.sync(source, target) == []
    assert not audmodel.copy(uids[0], source, target)[0].copied
    assert content(target) == before


@pytest.mark.sample(2)
@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("place", ["member", "directory"])
def test_repair(
    pair: Repositories, model_folder: Path, is_old: bool, place: str
) -> None:
    source, target = pair
    uid = publish(model_folder, repository=source)
    if is_old:
        forget_identity(source, uid)
    audmodel.copy(uid, source, target)
    assert not audmodel.copy(uid, source, target, repair=True)[0].copied
    right = content(source)
    wrong = bytearray(right[archive_of(uid)])
    wrong[wrong.index(b"uar") if place == "member" else len(wrong) - 30] ^= 1
    store(target, archive_of(uid), bytes(wrong))
    damaged = content(target)
    assert not audmodel.copy(uid, source, target)[0].copied
    assert audmodel.copy(uid, source, target, repair=True, dry_run=True)[0].copied
    assert content(target) == damaged
    assert audmodel.copy(uid, source, target, repair=True)[0].copied
    assert content(target) == right
    assert audmodel.leftovers(target, min_age=0) == []


# Storages that copy ----------------------------------------------------------


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Repositories:
    """Two buckets of one server."""
    server = seaweedfs.shared()
    monkeypatch.setenv("MINIO_ACCESS_KEY", seaweedfs.ACCESS_KEY)
    monkeypatch.setenv("MINIO_SECRET_KEY", seaweedfs.SECRET_KEY)
    first, second = (
        audmodel.Repository(server.bucket(), server.url, "s3") for _ in range(2)
    )
    audmodel.config.REPOSITORIES = [first, second]
    return first, second


@pytest.fixture
def no_bytes_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """No archive is fetched and sent."""

    def fail(passer: Passer) -> NoReturn:
        raise AssertionError("It was fetched.")

    monkeypatch.setattr(Passer, "chunks", fail)


@pytest.mark.thorough
def test_server_copies_between_buckets(
    buckets: Repositories, large_folder: Path, no_bytes_travel: None
) -> None:
    source, target = buckets
    uid = publish(large_folder, repository=source)
    forget_identity(source, uid)
    audmodel.copy(uid, source, target, num_workers=2)
    assert content(target) == content(source)


@pytest.mark.thorough
def test_bucket_that_may_not_be_read_by_the_server(
    buckets: Repositories, large_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audmodel.core.backend.s3 import upload

    source, target = buckets
    uid = publish(large_folder, repository=source)
    monkeypatch.setattr(upload, "copy_part", refuse_copy)
    audmodel.copy(uid, source, target, num_workers=2)
    assert content(target) == content(source)


def refuse_copy(*_: object, **__: object) -> NoReturn:
    from audmodel.core.backend.errors import CopyRefusedError

    raise CopyRefusedError("Access is denied.")


def test_disk_that_shares_blocks(
    folders: Repositories,
    model_folder: Path,
    no_bytes_travel: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_copies, "pays", lambda *_: True)
    source, target = folders
    uid = publish(model_folder, repository=source)
    audmodel.copy(uid, source, target)
    assert content(target) == content(source)


# All models ------------------------------------------------------------------


def test_sync(folders: Repositories, model_folder: Path) -> None:
    first, second = folders
    assert audmodel.sync(first, second) == []
    one = publish(model_folder, repository=first, subgroup="emotion.cnn")
    two = publish(model_folder, repository=first, version="2.0.0")
    three = publish(model_folder, repository=second, params={}, author="zoe")
    both = publish(model_folder, repository=second, params={"a": 1})
    audmodel.copy(both, second, first)
    before = content(second)
    planned = audmodel.sync(first, second, subgroup="emotion.*", dry_run=True)
    assert [model.uid for model in planned] == [one]
    assert content(second) == before
    assert audmodel.sync(first, second, subgroup="emotion.*") == planned
    copied = audmodel.sync(first, second, both=True, num_workers=3)
    assert [(model.uid, model.target) for model in copied] == [
        (two, second),
        (three, first),
    ]
    assert content(first) == content(second)
    assert audmodel.sync(first, second, both=True) == []
    with pytest.raises(TypeError, match="'name' has to be a string"):
        audmodel.sync(first, second, name=NUMBER)


def test_sync_of_aliases(folders: Repositories, model_folder: Path) -> None:
    first, second = folders
    one = publish(model_folder, repository=first)
    two = publish(model_folder, version="2.0.0", repository=first)
    audmodel.set_alias("same", one)
    audmodel.set_alias("moved", one)
    audmodel.set_alias("new", two)
    audmodel.copy([one, two], first, second)
    audmodel.config.REPOSITORIES = [second]
    audmodel.set_alias("same", one)
    audmodel.set_alias("moved", two)
    audmodel.set_alias("own", two)
    with pytest.warns(UserWarning, match="'moved' points to .* It stays"):
        changed = audmodel.sync(first, second, both=True, aliases=True)
    assert [(model.uid, model.aliases, model.kept) for model in changed] == [
        (one, [], ["moved"]),
        (two, ["new"], []),
        (two, ["own"], ["moved"]),
    ]
    assert audmodel.all_aliases(repository=second)["moved"] == two
    with pytest.warns(UserWarning, match="'moved' points to .* It stays"):
        [kept] = audmodel.sync(first, second, aliases=True)
    assert (kept.uid, kept.copied, kept.kept) == (one, False, ["moved"])
    assert audmodel.all_aliases(repository=second)["moved"] == two
    with pytest.raises(errors.InvalidInputError, match="With 'both', no alias"):
        audmodel.sync(first, second, both=True, move_aliases=True)
    changed = audmodel.sync(first, second, move_aliases=True)
    assert [model.aliases for model in changed] == [["moved"]]
    assert audmodel.all_aliases(repository=second)["moved"] == one
