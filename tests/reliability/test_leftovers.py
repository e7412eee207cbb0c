"""What dead publishers leave is found and removed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
import datetime
import os
from pathlib import Path
import random
import secrets
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

import audmodel
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.backend.s3.backend import S3
from audmodel.core.repository import claim_record
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from tests.backends import seaweedfs
from tests.backends.conftest import forget as forget
from tests.behaviour.backends import BACKENDS
from tests.behaviour.backends import NUMBER
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store
from tests.processes import Interpreter
from tests.processes import python as python
from tests.threads import only_here


# Of each family of faults
pytestmark = pytest.mark.sample(1)


DEAD = ModelId("deadbeef", "1.0.0")


@pytest.fixture(params=BACKENDS)
def anywhere(
    request: pytest.FixtureRequest, cache: Path
) -> Iterator[audmodel.Repository]:
    """An empty repository, the only one configured."""
    with BACKENDS[request.param](request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        yield repository


def path_of(model: ModelId, kind: str) -> str:
    return layout.record_path(model, kind)


def dead_claim(
    model: ModelId = DEAD, location: str = "sub/torch", found: str | None = None
) -> bytes:
    """Claim of a process of this machine that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    start = claim_record._process_start(os.getpid())
    assert start
    return (
        claim_record.dump(layout.archive_path(model, location), found)
        .replace(f"process: {os.getpid()}".encode(), f"process: {process.pid}".encode())
        .replace(start.encode(), b"1")
    )


def leave(repository: audmodel.Repository) -> set[str]:
    """Leave everything that a publisher may leave."""
    archive = layout.archive_path(DEAD, "sub/torch")
    paths = {
        archive: b"PK",
        path_of(DEAD, "meta"): b"{}",
        path_of(DEAD, "claim"): dead_claim(),
        layout.list_path(DEAD): b"aliases: [none]",
        f"/_uid/_probe/{secrets.token_hex(16)}.yaml": b"x",
    }
    for path, data in paths.items():
        store(repository, path, data)
    return set(paths)


def paths(found: list[audmodel.core.repository.orphans.Leftover]) -> set[str]:
    return {leftover.path for leftover in found}


@pytest.mark.parametrize("change", ["machine", "move"])
def test_archive_that_was_there_is_known_again(
    repository: audmodel.Repository, model_folder: Path, change: str
) -> None:
    """Its publisher saw another number of the device, or of the file."""
    uid = publish(model_folder)
    model = ModelId(*uid.split("-"))
    archive = layout.archive_path(model, "torch")
    header = path_of(model, "header")
    stored = content(repository)[header]
    with repository.connect() as backend:
        found = backend.stat_object(archive)
        assert found is not None
        _, device, inode, rest = found.etag.split("-", 3)
        if change == "machine":
            etag = f"inode-{int(device) + 1}-{inode}-{rest}"
        else:
            etag = f"inode-{device}-{int(inode) + 1}-{rest}"
        state = backend.stat_object(header)
        assert state is not None
        backend.delete_object(header, state.etag)
    store(repository, path_of(model, "claim"), dead_claim(model, "torch", etag))
    removed = audmodel.leftovers(repository, min_age=0, remove=True)
    assert [left.kind for left in removed if left.removed] == ["claim"]
    store(repository, header, stored)
    assert files(audmodel.load(uid)) == files(model_folder)


def test_leftovers(anywhere: audmodel.Repository, model_folder: Path) -> None:
    uid = publish(model_folder, alias="best", meta={"a": 1})
    before = content(anywhere)
    expected = leave(anywhere)

    # By the day that backends know
    assert audmodel.leftovers(anywhere, min_age=datetime.timedelta(days=1000)) == []
    found = audmodel.leftovers(anywhere, min_age=0)
    assert paths(found) == expected
    found = audmodel.leftovers(anywhere, min_age=0, remove=True)
    assert paths(found) == expected
    # A publisher stores metadata and lists aliases when a header may be there
    assert paths([f for f in found if not f.removed]) == {
        layout.list_path(DEAD),
        path_of(DEAD, "meta"),
    }
    assert [f.proven for f in found] == [f.removed for f in found]
    assert {leftover.uid for leftover in found} == {str(DEAD), None}
    assert {leftover.kind for leftover in found} == {
        "archive",
        "metadata",
        "claim",
        "list of aliases",
        "probe",
    }
    assert all("removed" in str(f) or "not proven" in str(f) for f in found)
    found = audmodel.leftovers(anywhere, min_age=0, remove=True, unproven=True)
    assert [leftover.removed for leftover in found] == [True, True]
    assert content(anywhere) == before
    assert audmodel.leftovers(anywhere, min_age=0) == []
    assert files(audmodel.load(uid)) == files(model_folder)
    assert audmodel.aliases(uid) == ["best"]


@pytest.mark.parametrize("name", ["file-system", "s3"])
def test_claim_of_a_published_model(
    request: pytest.FixtureRequest, cache: Path, model_folder: Path, name: str
) -> None:
    with BACKENDS[name](request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        uid = publish(model_folder)
        before = content(repository)
        claim = path_of(ModelId(*uid.split("-")), "claim")
        store(repository, claim, dead_claim())
        [found] = audmodel.leftovers(repository, min_age=0, remove=True)
        assert (found.path, found.kind, found.uid) == (claim, "claim", uid)
        assert found.removed
        assert content(repository) == before


def test_claims_of_the_living_and_of_others(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.05)
    mine, theirs = (
        path_of(DEAD, "claim"),
        path_of(ModelId("deadbeef", "2.0.0"), "claim"),
    )
    living = claim_record.dump("/a.zip", None)
    monkeypatch.setattr(claim_record, "own", {living})
    store(repository, mine, living)
    meta = path_of(DEAD, "meta")
    store(repository, meta, b"{}")
    archive = layout.archive_path(ModelId("deadbeef", "2.0.0"), "torch")
    store(repository, archive, b"PK")
    claim = b"host: elsewhere\nid: 1\n"
    store(repository, theirs, claim)

    # Who lives here is busy, and who is elsewhere renews its claim
    def renew(_: object) -> None:
        nonlocal claim
        claim += b" "
        store(repository, theirs, claim)

    monkeypatch.setattr(time, "sleep", only_here(time.sleep, renew))
    found = audmodel.leftovers(repository, min_age=0, remove=True, unproven=True)
    assert paths(found) == {meta, theirs, archive}
    assert not any(leftover.removed for leftover in found)
    assert content(repository).keys() == {mine, meta, theirs, archive}
    # Until it stops to do so
    monkeypatch.undo()
    monkeypatch.setattr(claim_record, "own", {living})
    monkeypatch.setattr(claims, "TIMEOUT", 0.2)
    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.05)
    found = audmodel.leftovers(repository, min_age=0, remove=True, unproven=True)
    assert {f.path for f in found if f.removed} == {theirs, archive}
    assert content(repository).keys() == {mine, meta}


def test_a_model_that_is_published_in_the_meantime(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model_folder, meta={"a": 1})
    header = path_of(ModelId(*uid.split("-")), "header")
    before = content(repository)
    file = Path(repository.host, repository.name + header)
    data = file.read_bytes()
    file.unlink()
    claimed = claims.claimed

    def late(*args: Any, **kwargs: Any) -> Any:
        # As a client of an earlier version does, which claims nothing
        file.write_bytes(data)
        return claimed(*args, **kwargs)

    monkeypatch.setattr(claims, "claimed", late)
    found = audmodel.leftovers(repository, min_age=0, remove=True, unproven=True)
    assert {leftover.kind for leftover in found} == {"archive", "metadata"}
    assert content(repository) == before
    assert files(audmodel.load(uid)) == files(model_folder)


def test_alias_of_a_missing_model_is_reported_only(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, alias="best")
    model = ModelId(*uid.split("-"))
    Path(repository.host, repository.name + path_of(model, "header")).unlink()
    found = audmodel.leftovers(repository, min_age=0, remove=True, unproven=True)
    [alias] = [leftover for leftover in found if leftover.kind == "alias"]
    assert not alias.removed
    assert alias.path == "/_alias/best/1.0.0/best-1.0.0.alias.yaml"
    assert f"alias of the missing model {uid}" in str(alias)
    # With its list, since the model may be published again
    assert content(repository).keys() == {alias.path, layout.list_path(model)}
    assert publish(model_folder) == uid
    assert audmodel.aliases(uid) == ["best"]


def test_what_is_not_ours_is_left_alone(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    publish(model_folder)
    others = [
        "/readme.txt",
        "/a/b/c.zip",
        "/a/b!/1.0.0/b!-1.0.0.zip",
        "/a/deadbeef/1.0.0/deadbeef-2.0.0.zip",
        "/a/deadbeef/1.0/deadbeef-1.0.zip",
        "/a/b/DEADBEEF/1.0.0/DEADBEEF-1.0.0.zip",
        "/_uid/deadbeef/1.0.0/deadbeef-1.0.0.other.yaml",
        "/_uid/deadbeef/1.0.0/x/deadbeef-1.0.0.meta.yaml",
        "/_uid/x.aliases/1.0.0/x.aliases-1.0.0.yaml",
        "/_uid/file",
        "/_alias/file",
        "/_alias/-bad!/1.0.0/x.yaml",
        "/_alias/empty/2.0.0/empty-2.0.0.alias.yaml",
        "/_alias/broken/1.0.0/broken-1.0.0.alias.yaml",
        "/a/.hidden~1",
    ]
    for path in others:
        store_raw(repository, path, b"!")
    before = listing(repository)
    assert audmodel.leftovers(repository, min_age=0, remove=True) == []
    assert listing(repository) == before


def store_raw(repository: audmodel.Repository, path: str, data: bytes) -> None:
    file = Path(repository.host, repository.name + path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def listing(repository: audmodel.Repository) -> dict[str, bytes]:
    root = Path(repository.host)
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_age(repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path_of(DEAD, "claim")
    store(repository, path, dead_claim())
    file = Path(repository.host, repository.name + path)
    stored = datetime.datetime.fromtimestamp(file.stat().st_ctime, datetime.UTC)
    assert audmodel.leftovers(repository) == []
    age = datetime.timedelta(days=7)

    def now(_: FileSystem) -> datetime.datetime:
        return stored + age

    monkeypatch.setattr(FileSystem, "now", now)
    [found] = audmodel.leftovers(repository)
    assert (found.path, found.removed) == (path, False)
    assert found.date == stored.date().isoformat()
    # Days are periods of 24 hours
    age -= datetime.timedelta(seconds=1)
    assert audmodel.leftovers(repository, remove=True) == []
    age += datetime.timedelta(days=10)
    assert (
        audmodel.leftovers(repository, min_age=datetime.timedelta(days=20), remove=True)
        == []
    )
    assert file.exists()
    assert audmodel.leftovers(
        repository, min_age=datetime.timedelta(days=16), remove=True
    )
    assert not file.exists()


def test_temporary_files(repository: audmodel.Repository, model_folder: Path) -> None:
    uid = publish(model_folder)
    before = listing(repository)
    code = (
        "import os, sys, audmodel\n"
        "r = audmodel.Repository(*sys.argv[1:], 'file-system')\n"
        "def chunks():\n"
        "    yield b'part'\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
        "with r.connect() as backend:\n"
        "    backend.write_object('/a/b.zip', chunks())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, repository.name, repository.host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert len(listing(repository)) == len(before) + 1
    # As long as it lives nobody touches it
    assert audmodel.leftovers(repository, min_age=0, remove=True) == []
    assert len(listing(repository)) == len(before) + 1
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [found] = audmodel.leftovers(repository, min_age=0)
    assert (found.path, found.kind, found.uid) == ("/a/b.zip", "upload", None)
    [found] = audmodel.leftovers(repository, min_age=0, remove=True)
    assert found.removed
    assert listing(repository) == before
    assert files(audmodel.load(uid)) == files(model_folder)


def test_uploads(
    request: pytest.FixtureRequest, cache: Path, model_folder: Path
) -> None:
    client = seaweedfs.shared().client()
    with BACKENDS["s3"](request) as repository:
        archive = layout.archive_path(DEAD, "torch")
        bucket = repository.name
        begun = [
            client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
            for key in (archive[1:], archive[1:], "somebody/elses")
        ]
        found = audmodel.leftovers(repository, min_age=0)
        assert [(f.path, f.kind, f.uid) for f in found] == [
            (archive, "upload", str(DEAD))
        ] * 2
        assert audmodel.leftovers(repository) == []
        # Earlier versions leave no claims
        found = audmodel.leftovers(repository, min_age=0, remove=True)
        assert not any(leftover.removed for leftover in found)
        store(repository, path_of(DEAD, "claim"), dead_claim(location="torch"))
        found = audmodel.leftovers(repository, min_age=0, remove=True)
        assert all(leftover.removed and leftover.proven for leftover in found)
        left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
        assert [upload["UploadId"] for upload in left] == begun[2:]
        # Once more does no harm
        with repository.connect() as backend:
            assert isinstance(backend, S3)
            for upload in backend.list_uploads("/"):
                backend.abort_upload(upload)
                backend.abort_upload(upload)
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
        assert content(repository) == {}


@pytest.mark.parametrize(
    ("age", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        (datetime.timedelta(-1), ValueError),
        ("7d", TypeError),
        (True, TypeError),
    ],
)
def test_wrong_arguments(
    repository: audmodel.Repository, age: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="min_age"):
        audmodel.leftovers(repository, min_age=age)
    with pytest.raises(TypeError, match="repository"):
        audmodel.leftovers(NUMBER)


# Races with the living -------------------------------------------------------


def persist(folder: Path, version: str) -> str:
    """Publish, also if the cleaner has the claim for a moment."""
    while True:
        try:
            return publish(folder, version=version, meta={"n": 1})
        except audmodel.errors.PublishConflictError:
            time.sleep(random.uniform(0, 0.05))


@pytest.mark.parametrize("name", ["file-system", "s3"])
def test_publishers_at_work(
    request: pytest.FixtureRequest, cache: Path, tmp_path: Path, name: str
) -> None:
    """Cleaners run all the time while publishers publish, some over leftovers."""
    rounds, folders = 6, []
    for number in range(3):
        folder = tmp_path / f"model{number}"
        folder.mkdir()
        (folder / "weights").write_bytes(secrets.token_bytes(200_000))
        folders.append(folder)
    with BACKENDS[name](request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        done: list[bool] = []

        def clean() -> int:
            count = 0
            while not done:
                found = audmodel.leftovers(repository, min_age=0, remove=True)
                count += sum(leftover.removed for leftover in found)
            return count

        def work(number: int) -> list[str]:
            return [
                persist(folders[number], f"{turn}.{number}.0") for turn in range(rounds)
            ]

        for turn in range(rounds):
            for number in range(len(folders)):
                model = ModelId("deadbeef", f"{turn}.{number}.0")
                store(repository, layout.archive_path(model, "sub/torch"), b"PK")
                store(repository, path_of(model, "claim"), dead_claim(model))
        with ThreadPoolExecutor(len(folders) + 1) as executor:
            cleaner = executor.submit(clean)
            results = list(executor.map(work, range(len(folders))))
            done.append(True)
            assert cleaner.result() >= rounds * len(folders)
        for number, uids in enumerate(results):
            for uid in uids:
                assert files(audmodel.load(uid)) == files(folders[number])
                assert audmodel.meta(uid) == {"n": 1}
        assert audmodel.leftovers(repository, min_age=0) == []


# What only looks as if nobody needed it --------------------------------------


AGES = pytest.mark.parametrize("days", [0, 7])


def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let years pass for the storage."""
    now = FileSystem.now
    monkeypatch.setattr(
        FileSystem, "now", lambda self: now(self) + datetime.timedelta(1000)
    )


def test_another_repository_in_a_folder(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a copy of it that is kept, with its own records, and half of them gone."""
    uid = publish(model_folder, alias="best")
    model = ModelId(*uid.split("-"))
    before = content(repository)
    for path, data in before.items():
        store(repository, f"/attic{path}", data)
    for path in before:
        if "header" in path:
            Path(repository.host, f"{repository.name}/attic{path}").unlink()
    # A publisher of the same model died here
    Path(repository.host, repository.name + path_of(model, "header")).unlink()
    claim = dead_claim(model, location="torch")
    store(repository, path_of(model, "claim"), claim)
    old(monkeypatch)
    found = audmodel.leftovers(repository, remove=True, unproven=True)
    assert found
    assert not [left for left in found if left.path.startswith("/attic")]
    left = [path for path in content(repository) if path.startswith("/attic")]
    assert sorted(left) == sorted(f"/attic{p}" for p in before if "header" not in p)


def test_backup_that_is_being_restored(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its files keep their times, and its headers come last."""
    uids = [publish(model_folder, version=f"{n}.0.0", alias=f"a{n}") for n in range(3)]
    before = content(repository)
    root = Path(repository.host, repository.name)
    long_ago = time.time() - 1000 * 24 * 3600
    for path in before:
        if ".header." in path or path.startswith("/_alias/"):
            (root / path[1:]).unlink()
        else:
            os.utime(root / path[1:], (long_ago, long_ago))
    # They are new here whatever their times say
    assert audmodel.leftovers(repository, remove=True, unproven=True) == []
    old(monkeypatch)
    found = audmodel.leftovers(repository, remove=True)
    assert {left.kind for left in found} == {"archive", "metadata", "list of aliases"}
    assert not any(left.removed or left.proven for left in found)
    for path, data in before.items():
        store(repository, path, data)
    for number, uid in enumerate(uids):
        assert files(audmodel.load(uid)) == files(model_folder)
        assert audmodel.aliases(uid) == [f"a{number}"]


@AGES
def test_header_that_was_deleted_by_mistake(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
) -> None:
    uid = publish(model_folder, meta={"a": 1})
    model = ModelId(*uid.split("-"))
    header = Path(repository.host, repository.name + path_of(model, "header"))
    data = header.read_bytes()
    header.unlink()
    if days:
        old(monkeypatch)
    found = audmodel.leftovers(
        repository, min_age=datetime.timedelta(days), remove=True
    )
    assert {left.kind for left in found} == {"archive", "metadata"}
    # Nor if a publisher died who was to mend it
    with repository.connect() as backend:
        state = backend.stat_object(layout.archive_path(model, "torch"))
    assert state is not None
    claim = dead_claim(model, location="torch", found=state.etag)
    store(repository, path_of(model, "claim"), claim)
    found = audmodel.leftovers(
        repository, min_age=datetime.timedelta(days), remove=True
    )
    assert {left.kind for left in found if left.removed} == {"claim"}
    header.write_bytes(data)
    assert files(audmodel.load(uid)) == files(model_folder)
    assert audmodel.meta(uid) == {"a": 1}


DIES = """
    import signal
    from audmodel.core.backend.filesystem import FileSystem
    method = getattr(FileSystem, args["method"])

    def die(backend, path, *arguments, **options):
        if args["kind"] in path:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(backend, path, *arguments, **options)

    setattr(FileSystem, args["method"], die)
    audmodel.publish(args["root"], "torch", {"sampling_rate": 16000}, "1.0.0")
"""


def die(python: Interpreter, root: Path, method: str, kind: str) -> None:
    """Let a publisher die right before it does something."""
    python.start(DIES, root=str(root), method=method, kind=f".{kind}").errors()


def test_publisher_that_died_before_it_stored_metadata(
    repository: audmodel.Repository, python: Interpreter, model_folder: Path
) -> None:
    die(python, model_folder, "replace_object", "claim.")
    found = audmodel.leftovers(repository, min_age=0)
    assert {left.kind for left in found} == {"archive", "claim"}
    assert all(left.proven for left in found)
    audmodel.leftovers(repository, min_age=0, remove=True)
    assert content(repository) == {}


def test_publisher_that_died_before_it_stored_the_header(
    repository: audmodel.Repository, python: Interpreter, model_folder: Path
) -> None:
    """Nothing tells it from one whose header was lost."""
    die(python, model_folder, "create_object", "header.")
    found = audmodel.leftovers(repository, min_age=0, remove=True)
    assert {left.kind: left.proven for left in found} == {
        "archive": False,
        "claim": True,
        "metadata": False,
    }
    assert all(left.proven == left.removed for left in found)
    found = audmodel.leftovers(repository, min_age=0, remove=True, unproven=True)
    assert all(left.removed for left in found)
    assert content(repository) == {}


def test_publisher_that_died_in_place_of_another(
    repository: audmodel.Repository, python: Interpreter, model_folder: Path
) -> None:
    """What the first one left is not taken for older than both."""
    die(python, model_folder, "replace_object", "claim.")
    die(python, model_folder, "write_object", "zip")
    found = audmodel.leftovers(repository, min_age=0, remove=True)
    assert {left.kind for left in found} == {"archive", "claim"}
    assert content(repository) == {}


# Clocks that are wrong -------------------------------------------------------


HOUR, YEAR = 3600.0, 365 * 24 * 3600.0


@pytest.mark.parametrize("shift", [-YEAR, -HOUR, HOUR, YEAR])
@pytest.mark.parametrize("name", ["file-system", "s3", "artifactory"])
def test_clock_of_the_cleaner(
    request: pytest.FixtureRequest,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    shift: float,
) -> None:
    """What is young for the storage is young."""
    with BACKENDS[name](request) as repository:
        store(repository, path_of(DEAD, "claim"), dead_claim())
        wrong = time.time() + shift
        if name == "file-system":  # the others are served by this machine
            monkeypatch.setattr(time, "time", lambda: wrong)

        def now(zone: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(wrong, zone)

        clock = SimpleNamespace(
            **{**vars(datetime), "datetime": SimpleNamespace(now=now)}
        )
        monkeypatch.setattr("audmodel.core.repository.orphans.datetime", clock)
        assert (
            audmodel.leftovers(
                repository, min_age=datetime.timedelta(days=1), remove=True
            )
            == []
        )
        assert len(audmodel.leftovers(repository, min_age=0)) == 1


@pytest.mark.parametrize("zone", ["UTC-14", "UTC+12"])
def test_time_zone_of_the_cleaner(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        store(repository, path_of(DEAD, "claim"), dead_claim())
        assert audmodel.leftovers(repository, min_age=datetime.timedelta(days=1)) == []
        [found] = audmodel.leftovers(repository, min_age=0)
        today = datetime.datetime.now(datetime.UTC).date()
        day = datetime.date.fromisoformat(found.date)
        assert today - day in (datetime.timedelta(0), datetime.timedelta(1))
    finally:
        monkeypatch.undo()
        time.tzset()
