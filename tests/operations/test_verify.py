"""Cached models and archives are compared to what was published."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import shutil
import signal
from typing import Any

import filelock
import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.backend.objects import ANY
from audmodel.core.operations import verification
from audmodel.errors import ArchiveError
from audmodel.errors import InvalidInputError
from audmodel.errors import NotCachedError
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store
from tests.cache.test_cache import entry_of
from tests.operations.test_partial import SIZES
from tests.operations.test_partial import folder as folder
from tests.operations.test_partial import publish_again
from tests.operations.test_partial import published as published
from tests.operations.test_partial import replace
from tests.operations.test_partial import small as small
from tests.operations.test_partial import uid as uid
from tests.processes import Interpreter


def damage(path: Path, offset: int = 0) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def problems(result: audmodel.Verification) -> dict[str, str]:
    return {file.path: file.problem for file in result.damaged}


# Bad input -----------------------------------------------------------------


def test_bad_input(repository: audmodel.Repository) -> None:
    with pytest.raises(TypeError):
        audmodel.verify(1)  # type: ignore[call-overload]
    with pytest.raises(audmodel.errors.InvalidIdError):
        audmodel.verify("a/b")
    with pytest.raises(ValueError, match="num_workers"):
        audmodel.verify("00000000-1.0.0", num_workers=0)
    with pytest.raises(InvalidInputError, match="'repair'"):
        audmodel.verify("00000000-1.0.0", repair=True, remote=True)
    with pytest.raises(NotCachedError):
        audmodel.verify("00000000-1.0.0")
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        audmodel.verify("00000000-1.0.0", remote=True)


def test_model_is_not_in_the_cache(uid: str, cache: Path) -> None:
    with pytest.raises(NotCachedError, match=str(cache)):
        audmodel.verify(uid, repair=True)


# Cache ---------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 3])
def test_sound_model(uid: str, num_workers: int) -> None:
    root = audmodel.load(uid)
    result = audmodel.verify(uid, num_workers=num_workers)
    assert result == audmodel.Verification(uid, root, [], [])
    assert result.ok


def test_sound_model_needs_no_repository(
    uid: str, repository: audmodel.Repository
) -> None:
    audmodel.load(uid)
    shutil.rmtree(repository.host)
    assert audmodel.verify(uid).ok


def test_model_of_the_released_version(uid: str, released: Interpreter) -> None:
    root = Path(released.run("return audmodel.load(args['uid'])", uid=uid))
    # It does not make files executable
    expected = {"model.onnx": "mode"}
    assert problems(audmodel.verify(uid)) == expected
    damage(root / "large.bin", 4_000_000)
    assert problems(audmodel.verify(uid)) == {"large.bin": "content", **expected}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_damage_is_found_and_repaired(uid: str, folder: Path, num_workers: int) -> None:
    root = Path(audmodel.load(uid))
    damage(root / "large.bin", 8_999_999)
    (root / "config" / "a.yaml").unlink()
    (root / "readme.txt").write_bytes(b"short")
    (root / "model.onnx").unlink()
    (root / "model.onnx").mkdir()
    (root / "model.onnx" / "inside").touch()
    shutil.rmtree(root / "config" / "sub")
    (root / "config" / "sub").touch()
    (root / "notes.txt").write_bytes(b"mine")
    expected = {
        "config/a.yaml": "missing",
        "config/sub/b.yaml": "missing",
        "large.bin": "content",
        "model.onnx": "kind",
        "readme.txt": "size",
    }
    result = audmodel.verify(uid, num_workers=num_workers)
    assert problems(result) == expected
    assert not result.ok
    assert not result.repaired
    assert "notes.txt" in result.extra
    result = audmodel.verify(uid, repair=True, num_workers=num_workers)
    assert problems(result) == expected
    assert result.ok
    assert result.repaired
    assert files(root) == {**files(folder), "notes.txt": b"mine"}
    assert os.access(root / "model.onnx", os.X_OK)
    again = audmodel.verify(uid)
    assert again.ok
    assert again.extra == ["notes.txt"]
    assert not list(root.parent.glob(".*~*"))


def test_link_instead_of_a_file(uid: str, folder: Path, tmp_path: Path) -> None:
    root = Path(audmodel.load(uid))
    copy = tmp_path / "copy"
    shutil.copy(folder / "readme.txt", copy)
    (root / "readme.txt").unlink()
    (root / "readme.txt").symlink_to(copy)
    assert problems(audmodel.verify(uid, repair=True)) == {"readme.txt": "kind"}
    assert not (root / "readme.txt").is_symlink()
    assert copy.exists()


def test_file_that_cannot_be_read(uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    audmodel.load(uid)
    preadv = os.preadv

    def fail(fd: int, buffers: Any, offset: int) -> int:
        if os.fstat(fd).st_size == SIZES["large.bin"] and offset >= 4_000_000:
            raise OSError(5, "Input/output error")
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", fail)
    assert problems(audmodel.verify(uid)) == {"large.bin": "unreadable"}
    monkeypatch.undo()


def test_only_broken_parts_are_fetched(
    repository: audmodel.Repository, folder: Path, fetched: list[int]
) -> None:
    uid = audmodel.publish(str(folder), "torch", {}, "1.0.0")
    root = Path(audmodel.load(uid))
    damage(root / "large.bin", 5_000_000)
    fetched.clear()
    (damaged,) = audmodel.verify(uid, repair=True).damaged
    assert 0 < damaged.size <= 4 * 1024 * 1024
    assert sum(fetched) < 4_300_000
    assert files(root) == files(folder)
    # A file that was cut has good parts as well
    os.truncate(root / "large.bin", 5_000_000)
    fetched.clear()
    assert audmodel.verify(uid, repair=True).ok
    assert sum(fetched) < 5_100_000
    assert files(root) == files(folder)


def test_readers_are_not_disturbed(uid: str, folder: Path) -> None:
    root = Path(audmodel.load(uid))
    damage(root / "large.bin", 100)
    damaged = (root / "large.bin").read_bytes()
    with open(root / "large.bin", "rb") as file:
        start = file.read(1_000_000)
        audmodel.verify(uid, repair=True)
        assert start + file.read() == damaged
    assert files(root) == files(folder)


def test_some_files(uid: str, folder: Path) -> None:
    root = Path(audmodel.load(uid, files=["readme.txt", "large.bin"]))
    assert audmodel.verify(uid).path == str(root)
    assert audmodel.verify(uid).ok
    damage(root / "large.bin", 4_500_000)
    (root / "mine").touch()
    result = audmodel.verify(uid, repair=True)
    assert problems(result) == {"large.bin": "content"}
    assert result.extra == ["mine"]
    assert (root / "large.bin").read_bytes() == (folder / "large.bin").read_bytes()
    assert sorted(files(root)) == ["large.bin", "mine", "readme.txt"]


def test_repair_waits_for_who_is_at_work(uid: str) -> None:
    root = Path(audmodel.load(uid))
    damage(root / "readme.txt")
    with (
        entry_of(uid).whole.lock(timeout=1),
        pytest.raises(filelock.Timeout, match=r"\.1\.0\.0\.lock"),
    ):
        audmodel.verify(uid, repair=True, timeout=0.1)


KILL = """
    import signal
    from audmodel.core.cache.staging import Staging
    Staging.publish = lambda self, name: os.kill(os.getpid(), signal.SIGKILL)
    audmodel.verify(args["uid"], repair=True)
"""


def test_killed_repair(uid: str, folder: Path, python: Interpreter) -> None:
    root = Path(audmodel.load(uid))
    damage(root / "readme.txt")
    process = python.start(KILL, uid=uid)
    process.errors()
    assert process.process.returncode == -signal.SIGKILL
    assert problems(audmodel.verify(uid)) == {"readme.txt": "content"}
    assert audmodel.verify(uid, repair=True).ok
    assert files(root) == files(folder)


def test_what_a_killed_repair_left_is_removed(
    uid: str, folder: Path, python: Interpreter
) -> None:
    damage(Path(audmodel.load(uid)) / "readme.txt")
    process = python.start(KILL, uid=uid)
    process.errors()
    assert process.process.returncode == -signal.SIGKILL
    assert [model.unfinished for model in audmodel.cached()] == [False, True]
    audmodel.remove_cached(uid)
    assert audmodel.cached() == []


def sizes_stay(root: Path) -> None:
    pass


def names_change(root: Path) -> None:
    (root / "a.bin").rename(root / "x.bin")


@pytest.mark.parametrize("patterns", [None, ["a.bin", "b.bin"]])
@pytest.mark.parametrize("change", [sizes_stay, names_change])
def test_repair_after_the_version_was_published_again(
    repository: audmodel.Repository,
    small: Path,
    patterns: list[str] | None,
    change: Callable[[Path], None],
) -> None:
    """All files are of the one archive that is there, none of the other."""
    uid = publish(small)
    root = Path(audmodel.load(uid, files=patterns))
    damage(root / "a.bin")
    change(small)
    publish_again(repository, small)
    result = audmodel.verify(uid, repair=True)
    assert result.ok
    found, published = files(root), files(small)
    names = sorted(found.keys() & published.keys())
    if patterns is None:
        assert found == published
    assert all(found[name] == published[name] for name in names)
    assert audmodel.verify(uid) == audmodel.Verification(
        uid, str(root), [], result.extra
    )
    assert audmodel.load(uid, files=names) == str(root)


def test_repair_after_the_damaged_file_was_published_no_more(
    repository: audmodel.Repository, small: Path
) -> None:
    uid = publish(small)
    root = Path(audmodel.load(uid))
    damage(root / "a.bin")
    (small / "a.bin").unlink()
    replace(repository, small)
    for repair in (True, False):
        result = audmodel.verify(uid, repair=repair)
        assert result == audmodel.Verification(uid, str(root), [], [])
    assert files(root) == files(small)


# Repository ----------------------------------------------------------------


def archive_path(repository: audmodel.Repository) -> str:
    (path,) = (path for path in content(repository) if path.endswith(".zip"))
    return path


@pytest.mark.parametrize("num_workers", [1, 3])
def test_sound_archive(
    uid: str, repository: audmodel.Repository, cache: Path, num_workers: int
) -> None:
    result = audmodel.verify(uid, remote=True, num_workers=num_workers)
    assert result.ok
    assert result.path.endswith(archive_path(repository))
    # Nothing is stored but what is known of the model
    assert not [path for path in cache.rglob("*") if path.name in SIZES]
    assert not list(cache.rglob("*~*"))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_damaged_archive(
    uid: str, repository: audmodel.Repository, folder: Path, num_workers: int
) -> None:
    path = archive_path(repository)
    data = bytearray(content(repository)[path])
    originals = files(folder)
    for name in ("config/sub/b.yaml", "large.bin", "model.onnx"):
        # These files do not shrink, so that their bytes are in the archive,
        # with a few in between if they are large
        position = data.find(originals[name][-900:-800])
        assert position > 0
        data[position] ^= 1
    store(repository, path, bytes(data))
    result = audmodel.verify(uid, remote=True, num_workers=num_workers)
    assert set(problems(result)) == {"config/sub/b.yaml", "large.bin", "model.onnx"}
    assert not result.ok
    assert all(file.details for file in result.damaged)
    with pytest.raises(ArchiveError):
        audmodel.load(uid)


def test_archive_that_is_gone(uid: str, repository: audmodel.Repository) -> None:
    with repository.connect() as backend:
        backend.delete_object(archive_path(repository), ANY)
    with pytest.raises(ArchiveError, match="does not exist"):
        audmodel.verify(uid, remote=True)


def test_truncated_archive(uid: str, repository: audmodel.Repository) -> None:
    path = archive_path(repository)
    store(repository, path, content(repository)[path][:-10])
    with pytest.raises(ArchiveError):
        audmodel.verify(uid, remote=True)


# Meanwhile -----------------------------------------------------------------


def test_model_that_is_removed_before_it_is_repaired(
    uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some files never become a whole model."""
    root = Path(audmodel.load(uid))
    damage(root / "readme.txt")
    verify = verification.verify

    def verify_and_remove(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(verification, "verify", verify)
        result = verify(*arguments, **options)
        audmodel.remove_cached(uid)
        return result

    monkeypatch.setattr(verification, "verify", verify_and_remove)
    with pytest.raises(NotCachedError):
        audmodel.verify(uid, repair=True)
    assert not root.exists()


def at_first_read(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something before the first byte of a file is read."""
    preadv = os.preadv

    def acting(fd: int, buffers: Any, offset: int) -> int:
        monkeypatch.setattr(os, "preadv", preadv)
        act()
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", acting)


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("files", [None, "*"])
def test_model_that_is_removed_while_it_is_verified(
    uid: str, monkeypatch: pytest.MonkeyPatch, files: str | None, num_workers: int
) -> None:
    audmodel.load(uid, files=files)
    at_first_read(monkeypatch, lambda: audmodel.remove_cached(uid))
    with pytest.raises(NotCachedError):
        audmodel.verify(uid, num_workers=num_workers)


@pytest.mark.parametrize("files", [None, "*"])
def test_model_that_is_loaded_again_while_it_is_verified(
    uid: str, monkeypatch: pytest.MonkeyPatch, files: str | None
) -> None:
    audmodel.load(uid, files=files)

    def again() -> None:
        audmodel.remove_cached(uid)
        audmodel.load(uid)

    at_first_read(monkeypatch, again)
    result = audmodel.verify(uid)
    assert result.ok
    assert result.path == audmodel.load(uid)


def test_files_that_are_deleted_while_the_model_is_verified(
    uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(audmodel.load(uid))

    def delete() -> None:
        for name in SIZES:
            (root / name).unlink()

    at_first_read(monkeypatch, delete)
    found = problems(audmodel.verify(uid))
    # The file that was open could be read to its end
    assert len(found) >= len(SIZES) - 1
    assert set(found.values()) == {"missing"}


def test_some_files_that_are_removed_before_they_are_listed(
    uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    audmodel.load(uid, files="*")
    place_of = verification.slot_of

    def place_and_remove(entry: Any) -> Any:
        place = place_of(entry)
        if calls:
            audmodel.remove_cached(uid)
        calls.append(entry)
        return place

    calls: list[Any] = []
    monkeypatch.setattr(verification, "slot_of", place_and_remove)
    with pytest.raises(NotCachedError):
        audmodel.verify(uid)


def test_rights_survive_a_repair(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    program = tmp_path / "program" / "run"
    program.parent.mkdir()
    program.write_bytes(bytes(9_000_000))
    program.chmod(0o755)
    uid = audmodel.publish(str(program.parent), "torch", {}, "1.0.0")
    path = Path(audmodel.load(uid)) / "run"
    mode = path.stat().st_mode
    damage(path, 5_000_000)
    assert audmodel.verify(uid, repair=True).ok
    assert path.read_bytes() == program.read_bytes()
    assert path.stat().st_mode == mode


# Another start of the machine ----------------------------------------------


@pytest.fixture
def restarted(uid: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a model that was loaded before the machine was started."""
    root = Path(audmodel.load(uid))
    monkeypatch.setattr(disk, "boot_id", lambda: "another")
    return root


def test_sound_model_after_a_start(uid: str, restarted: Path) -> None:
    assert audmodel.verify(uid).ok


def test_short_id_after_a_start(
    uid: str, restarted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDMODEL_OFFLINE", "1")
    audmodel.config.REPOSITORIES = [audmodel.Repository("a", "https://b.invalid", "s3")]
    assert audmodel.load(uid.split("-")[0]) == str(restarted)


def test_files_that_did_not_reach_the_disk_are_not_opened(
    uid: str, folder: Path, restarted: Path
) -> None:
    damage(restarted / "readme.txt")
    with audmodel.open(uid, "readme.txt") as file:
        assert file.read() == (folder / "readme.txt").read_bytes()


# Permissions ---------------------------------------------------------------


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Model with programs, one of which has several parts."""
    root = tmp_path / "scripts"
    root.mkdir()
    for name, size in (("run.sh", 100), ("large", 9_000_000), ("data", 100)):
        (root / name).write_bytes(os.urandom(size))
        (root / name).chmod(0o644 if name == "data" else 0o755)
    return root


@pytest.mark.parametrize("name", ["run.sh", "large"])
@pytest.mark.parametrize("patterns", [None, ["run.sh", "large"]])
def test_program_that_cannot_be_run(
    repository: audmodel.Repository,
    scripts: Path,
    fetched: list[int],
    name: str,
    patterns: list[str] | None,
) -> None:
    uid = publish(scripts)
    root = Path(audmodel.load(uid, files=patterns))
    (root / name).chmod(0o644)
    result = audmodel.verify(uid)
    assert [(file.path, file.problem, file.size) for file in result.damaged] == [
        (name, "mode", 0)
    ]
    fetched.clear()
    assert audmodel.verify(uid, repair=True).repaired
    assert sum(fetched) < 100_000
    assert os.access(root / name, os.X_OK)
    assert (root / name).read_bytes() == (scripts / name).read_bytes()
    assert audmodel.verify(uid).damaged == []


def test_programs_that_the_released_version_loaded(
    repository: audmodel.Repository, scripts: Path, released: Interpreter
) -> None:
    uid = publish(scripts)
    root = Path(released.run("return audmodel.load(args['uid'])", uid=uid))
    assert not os.access(root / "run.sh", os.X_OK)
    assert problems(audmodel.verify(uid)) == {"large": "mode", "run.sh": "mode"}
    assert audmodel.verify(uid, repair=True).ok
    assert os.access(root / "run.sh", os.X_OK)
    assert os.access(root / "large", os.X_OK)
    assert not os.access(root / "data", os.X_OK)


def test_damaged_program_is_mended_with_its_permissions(
    repository: audmodel.Repository, scripts: Path
) -> None:
    uid = publish(scripts)
    root = Path(audmodel.load(uid))
    for name in ("run.sh", "large"):
        damage(root / name)
        (root / name).chmod(0o644)
    assert problems(audmodel.verify(uid)) == {"large": "content", "run.sh": "content"}
    assert audmodel.verify(uid, repair=True).ok
    assert audmodel.verify(uid).damaged == []


def test_permissions_of_what_earlier_attempts_left(
    repository: audmodel.Repository, scripts: Path, cache: Path
) -> None:
    uid = publish(scripts)
    left = cache / uid.split("-")[0] / "1.0.0~"
    left.mkdir(parents=True)
    for name in ("run.sh", "large"):
        (left / name).write_bytes((scripts / name).read_bytes())
    root = Path(audmodel.load(uid))
    assert os.access(root / "run.sh", os.X_OK)
    assert os.access(root / "large", os.X_OK)
