"""Disks that are full, broken or read only, at every call that writes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import os
from pathlib import Path
import random
import re
import shutil
import subprocess
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.reliability.strace import CHANGING
from tests.reliability.strace import SYNCING
from tests.reliability.strace import Call
from tests.reliability.strace import Run
from tests.reliability.strace import Tracer


# Of each family of faults
pytestmark = pytest.mark.sample(1)


Count = Callable[[str, int], None]

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EMFILE", "EPERM", "EFBIG")
# What some file systems cannot do, as those of FUSE without a write cache
UNSUPPORTED = ("EINVAL", "EOPNOTSUPP")
PLACING = ("pwrite64", "pwritev", "ftruncate", "fallocate", "copy_file_range")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "log").mkdir(parents=True)
    (root / "large").write_bytes(random.Random(4).randbytes(4_500_000))
    (root / "log" / "a").write_bytes(b"a" * 5000)
    (root / "empty").write_bytes(b"")
    return root


@pytest.fixture
def chosen(chance: random.Random, torture: int) -> random.Random | None:
    """What chooses the kind of each fault, unless all kinds are tried."""
    return None if torture else chance


def faults(
    tracer: Tracer, code: str, chance: random.Random | None, **arguments: Any
) -> Iterator[tuple[str, str]]:
    """Faults to inject into code, each at another call.

    Each call fails in one way, by chance, or in all that there are.

    """
    watched = (*CHANGING, *SYNCING, "close")
    complete = tracer.run(code, watch=watched, **arguments)
    assert complete.error is None, complete
    calls = [call for call in complete.calls if may_fail(call, complete.calls)]
    points = dict.fromkeys(call.point for call in calls if not call.failed)
    for name, number in points:
        possible = errors_of(name)
        for kind in chance.sample(possible, 1) if chance else possible:
            yield f"{name}:error={kind}:when={number}", kind


def may_fail(call: Call, calls: Sequence[Call]) -> bool:
    """Whether the disk has a say in a call."""
    if call.name == "close":
        # Some file systems write when a file is closed that was written to
        file = re.escape(call.text.partition(")")[0])
        written = ("write", "pwrite64")
        return any(c.name in written and re.match(file, c.text) for c in calls)
    return call.is_changing or call.name in SYNCING


def errors_of(name: str) -> tuple[str, ...]:
    """Errors of calls of a name."""
    if name == "close":
        return ("EIO", "ENOSPC", "EDQUOT")
    return ERRORS + UNSUPPORTED if name in PLACING else ERRORS


def names_what_failed(run: Run, repository: audmodel.Repository, cache: Path) -> None:
    """Check an error of a load.

    The number of a call may stand for another one, which opens the archive.

    """
    in_repository = repository.host in run.message
    expected = "RepositoryError" if in_repository else "CacheError"
    assert expected in run.bases, run
    assert in_repository or str(cache) in run.message, run


OPERATIONS = {
    "load": "return audmodel.load(args['uid'])",
    "load with threads": "return audmodel.load(args['uid'], num_workers=4)",
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_load(
    operation: str,
    repository: audmodel.Repository,
    model: Path,
    cache: Path,
    tracer: Tracer,
    chosen: random.Random | None,
    count: Count,
) -> None:
    uid = publish(model)
    folder = cache.joinpath(*uid.split("-"))
    failed = tried = 0
    for inject, _ in faults(tracer, OPERATIONS[operation], chosen, uid=uid):
        shutil.rmtree(cache)
        run = tracer.run(OPERATIONS[operation], inject=inject, uid=uid)
        tried += 1
        if run.error is None:
            # What only saves time may fail
            assert run.result == str(folder), (inject, run)
            assert files(folder) == files(model)
            continue
        failed += 1
        names_what_failed(run, repository, cache)
        assert not folder.exists(), inject
        assert len(list(folder.parent.glob(".*~*"))) <= 1
        assert audmodel.load(uid, timeout=1) == str(folder)
        assert files(folder) == files(model)
        assert not list(folder.parent.glob("*~*")), inject
    assert failed
    count("faults of the disk: load, next one whole", tried)


@pytest.mark.thorough
@pytest.mark.parametrize("operation", OPERATIONS)
def test_load_with_another_version_in_the_cache(
    operation: str,
    repository: audmodel.Repository,
    model: Path,
    cache: Path,
    tmp_path: Path,
    tracer: Tracer,
    chosen: random.Random | None,
    count: Count,
) -> None:
    first = audmodel.load(publish(model))
    kept = files(first)
    (model / "new").write_bytes(b"new" * 100_000)
    uid = publish(model, version="2.0.0")
    folder = cache.joinpath(*uid.split("-"))
    shutil.copytree(cache, tmp_path / "kept")
    failed = 0
    for inject, _ in faults(tracer, OPERATIONS[operation], chosen, uid=uid):
        shutil.rmtree(cache)
        shutil.copytree(tmp_path / "kept", cache)
        run = tracer.run(OPERATIONS[operation], inject=inject, uid=uid)
        count("faults of the disk: load beside another version, next one whole", 1)
        if run.error is not None:
            failed += 1
            names_what_failed(run, repository, cache)
            assert not folder.exists(), inject
        assert audmodel.load(uid, timeout=1) == str(folder)
        assert files(folder) == files(model)
        assert files(first) == kept
    assert failed


@pytest.mark.thorough
def test_load_some_files(
    repository: audmodel.Repository,
    model: Path,
    cache: Path,
    tracer: Tracer,
    chosen: random.Random | None,
    count: Count,
) -> None:
    code = """
        return audmodel.load(args["uid"], files=args["files"], num_workers=2)
    """
    uid = publish(model)
    expected = {name: files(model)[name] for name in ("large", "log/a")}
    patterns = sorted(expected)
    failed = 0
    for inject, _ in faults(tracer, code, chosen, uid=uid, files=patterns):
        shutil.rmtree(cache)
        run = tracer.run(code, inject=inject, uid=uid, files=patterns)
        count("faults of the disk: load of some files, next one right", 1)
        for folder in cache.glob("*/.*+files"):
            # Whatever is visible is right
            assert files(folder).items() <= expected.items(), inject
        if run.error is not None:
            failed += 1
            names_what_failed(run, repository, cache)
        folder = Path(audmodel.load(uid, files=patterns, timeout=1))
        assert files(folder) == expected
        # Whoever finds all files there does not tidy up
        left = [path for path in folder.parent.glob("*~*") if files(path)]
        assert not left, inject
    assert failed


@pytest.mark.thorough
def test_publish(
    repository: audmodel.Repository,
    model: Path,
    tracer: Tracer,
    chosen: random.Random | None,
    count: Count,
) -> None:
    code = """
        return audmodel.publish(
            args["root"], "torch", {}, "1.0.0", alias="best", meta={"a": 1}
        )
    """
    uid = audmodel.uid("torch", {}, "1.0.0")
    host = Path(repository.host, "models")
    failed = tried = 0
    for inject, _ in faults(tracer, code, chosen, root=str(model)):
        shutil.rmtree(host)
        host.mkdir()
        run = tracer.run(code, inject=inject, root=str(model))
        tried += 1
        if run.error is not None:
            failed += 1
            is_told = run.error == "WriteUncertainError" or "alias" in run.message
            assert is_told or not audmodel.exists(uid), (inject, run)
            assert "RepositoryError" in run.bases, (inject, run)
            assert str(host) in run.message, (inject, run)
        # One call failed, those that tidy up did not, unless it was one of them
        left = [path for path in host.rglob("*") if "~" in path.name]
        assert len(left) <= int("unlink" in inject), (inject, left)
        if not audmodel.exists(uid):
            assert run.error is not None
            stored = [path for path in content(repository) if "~" not in path]
            # Nobody can be sure that a header that was refused does not appear,
            # so what it needs stays until the next one publishes
            if "header.yaml" not in run.message and "unlink" not in inject:
                assert not stored, (inject, run)
            assert not stored or len(stored) == 2 or "unlink" in inject
            publish(model, params={}, alias="best", meta={"a": 1})
        else:
            audmodel.set_alias("best", uid)
        assert files(audmodel.load(uid)) == files(model)
        assert audmodel.meta(uid) == {"a": 1}
        assert audmodel.resolve_alias("best") == uid
        shutil.rmtree(audmodel.default_cache_root())
    assert failed
    count("faults of the disk: publish, next one whole", tried)


@pytest.mark.parametrize(
    ("code", "before", "after"),
    [
        ("audmodel.update_meta(args['uid'], {'b': 2})", {"a": 1}, {"a": 1, "b": 2}),
        ("audmodel.set_alias('best', args['uid'])", {"a": 1}, {"a": 1}),
    ],
)
def test_records(
    code: str,
    before: dict[str, int],
    after: dict[str, int],
    repository: audmodel.Repository,
    model: Path,
    tracer: Tracer,
    chosen: random.Random | None,
    count: Count,
) -> None:
    other = publish(model, version="0.9.0")
    uid = publish(model, meta={"a": 1})
    audmodel.set_alias("best", other)
    tried = 0
    for inject, _ in faults(tracer, code, chosen, uid=uid):
        audmodel.update_meta(uid, before, replace=True)
        audmodel.set_alias("best", other)
        run = tracer.run(code, inject=inject, uid=uid)
        tried += 1
        assert audmodel.meta(uid) in (before, after)
        if run.error is None:
            assert audmodel.meta(uid) == after
        else:
            assert "RepositoryError" in run.bases, (inject, run)
            assert repository.host in run.message, (inject, run)
        target = audmodel.resolve_alias("best")
        assert target in (other, uid)
        assert [u for u in (other, uid) if "best" in audmodel.aliases(u)] == [target]
    count("faults of the disk: updates of records, old or new", tried)


# Full disks ----------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of a size that can be changed, in KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = False

    def resize(size: int) -> Path:
        nonlocal mounted
        option = f"{'remount,' if mounted else ''}size={size}k"
        command = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(path)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            pytest.skip("only root can make a disk that is full")
        mounted = True
        return path

    yield resize
    if mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def used(root: Path) -> int:
    return sum(path.lstat().st_blocks for path in root.rglob("*"))


def test_cache_on_a_disk_that_is_too_small(
    repository: audmodel.Repository,
    model: Path,
    small_disk: Callable[[int], Path],
    torture: int,
    count: Count,
) -> None:
    uid = publish(model)
    size = sum(len(data) for data in files(model).values())
    tried = 0
    step = 512 if not torture else 32
    for room in range(32, 6000, step):
        cache = small_disk(room)
        if room * 1024 >= size:
            break
        tried += 1
        # It ends before it begins, with all the room still there
        message = f"needs {size} bytes in '{cache}/.*'"
        with pytest.raises(audmodel.errors.DiskFullError, match=message):
            audmodel.load(uid, cache_root=str(cache))
        assert not list(cache.glob("*/.*~*"))
        assert used(cache) < 100
    # The disk needs room for its own tables as well
    cache = small_disk(room + 512)
    assert files(audmodel.load(uid, cache_root=str(cache))) == files(model)
    count("disks that are too small for a load", tried)


def test_cache_on_a_disk_that_others_fill(
    repository: audmodel.Repository,
    model: Path,
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model)
    cache = small_disk(3000)
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        for workers in (1, 4):
            with pytest.raises(audmodel.errors.DiskFullError, match=str(cache)):
                audmodel.load(uid, cache_root=str(cache), num_workers=workers)
    assert not cache.joinpath(*uid.split("-")).exists()
    small_disk(8000)
    root = audmodel.load(uid, cache_root=str(cache))
    assert files(root) == files(model)
    assert not list(cache.glob("*/.*~*"))


def test_repository_on_a_disk_that_is_too_small(
    repository: audmodel.Repository,
    model: Path,
    small_disk: Callable[[int], Path],
    torture: int,
    count: Count,
) -> None:
    host = small_disk(32)
    place = audmodel.Repository("models", str(host), "file-system")
    audmodel.config.REPOSITORIES = [place]
    (host / "models").mkdir()
    tried = 0
    for room in range(8, 6000, 512 if not torture else 32):
        small_disk(room)
        if room * 1024 >= 4_500_000:
            break
        tried += 1
        message = f"'{host}/models/.*No space left"
        with pytest.raises(audmodel.errors.RepositoryError, match=message):
            publish(model)
        assert content(place) == {}
    uid = publish(model)
    assert files(audmodel.load(uid)) == files(model)
    count("disks that are too small for a publication", tried)


def test_too_many_open_files(
    repository: audmodel.Repository,
    model: Path,
    tracer: Tracer,
    cache: Path,
) -> None:
    code = """
        import resource
        # Those that are open already count as well
        last = os.open(os.devnull, os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + args["more"], 100))
        if args["uid"]:
            return audmodel.load(args["uid"], num_workers=8)
        return audmodel.publish(args["root"], "torch", {}, "1.0.0", num_workers=8)
    """
    uid = publish(model)
    other = audmodel.uid("torch", {}, "1.0.0")
    for more in range(1, 7):
        run = tracer.run(code, uid=uid, more=more)
        assert run.error is None or "AudmodelError" in run.bases, run
        run = tracer.run(code, uid="", root=str(model), more=more)
        assert run.error is None or {"AudmodelError", "OSError"} & {*run.bases}, run
    if not audmodel.exists(other):
        publish(model, params={})
    for name in (uid, other):
        assert files(audmodel.load(name)) == files(model)
    assert not list(Path(repository.host).rglob("*~*"))


def test_names_that_the_disk_does_not_take(
    repository: audmodel.Repository, model: Path, cache: Path, tmp_path: Path
) -> None:
    uid = publish(model)
    root = tmp_path / ("x" * 250)
    for _ in range(15):
        root = root / ("x" * 250)
    with pytest.raises(audmodel.errors.CacheError, match="name too long"):
        audmodel.load(uid, cache_root=str(root))
    assert os.listdir(tmp_path / "host") == ["models"]


@pytest.mark.parametrize(
    ("inject", "advice"),
    [
        ("ftruncate:error=EOPNOTSUPP:when=1", "write in the middle of a file"),
        ("ftruncate:error=EINVAL:when=1", "write in the middle of a file"),
        ("pwrite64:error=ESPIPE:when=1+", "write in the middle of a file"),
        ("pwrite64:error=EOPNOTSUPP:when=1+", "write in the middle of a file"),
        ("pwrite64:error=EFBIG:when=1+", "'ulimit -f'"),
        ("pwrite64:error=EPERM:when=1+", "permissions forbid it"),
        ("pwrite64:error=EDQUOT:when=1+", "Make room"),
    ],
)
def test_advice_follows_what_the_file_system_says(
    repository: audmodel.Repository,
    model: Path,
    cache: Path,
    tracer: Tracer,
    inject: str,
    advice: str,
) -> None:
    uid = publish(model)
    run = tracer.run(OPERATIONS["load with threads"], inject=inject, uid=uid)
    assert "CacheError" in run.bases, run
    assert advice in run.message
    assert str(cache) in run.message
    assert not cache.joinpath(*uid.split("-")).exists()
