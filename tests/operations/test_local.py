"""One answer to what the cache has of a model, whichever function is asked."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import shutil
import threading
import time

import filelock
import pytest

import audmodel
from audmodel.core.cache import locks
from audmodel.core.cache.marker import Marker
from audmodel.core.cache.slot import Slot
from audmodel.core.operations import index
from audmodel.core.operations import verification
from audmodel.core.operations.find import Found
from audmodel.core.operations.options import LoadOptions
from audmodel.errors import ArchiveMismatchError
from audmodel.errors import FileNotInModelError
from audmodel.errors import NotCachedError
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.cache.test_cache import entry_of
from tests.operations.test_partial import publish_again


SIZES = {"a/1.bin": 1000, "a/2.bin": 2000, "b.bin": 3000, "large.bin": 9_000_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for name, size in SIZES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.urandom(size))
    (root / "b.bin").chmod(0o755)
    return root


@pytest.fixture
def uid(repository: audmodel.Repository, folder: Path) -> str:
    return publish(folder)


@pytest.mark.parametrize("is_whole", [True, False])
def test_file_that_does_not_belong_to_the_model(uid: str, is_whole: bool) -> None:
    patterns = None if is_whole else list(SIZES)
    root = Path(audmodel.load(uid, files=patterns))
    (root / "extra").write_bytes(b"x")
    for call in (
        lambda: audmodel.load(uid, files="extra"),
        lambda: audmodel.load([uid], files="extra"),
        lambda: audmodel.open(uid, "extra"),
        lambda: list(audmodel.stream(uid, files="extra")),
        lambda: audmodel.plan_load(uid, files="extra"),
    ):
        with pytest.raises(FileNotInModelError):
            call()
    assert audmodel.verify(uid).extra == ["extra"]
    assert "extra" not in [file.path for file in audmodel.files(uid)]
    assert "extra" not in [os.path.basename(p) for p in audmodel.stream(uid)]
    assert (root / "extra").exists()


def test_files_of_a_model_with_a_missing_one_are_not_fetched_again(
    uid: str, folder: Path, fetched: list[int]
) -> None:
    root = Path(audmodel.load(uid))
    (root / "b.bin").unlink()
    fetched.clear()
    partial = Path(audmodel.load(uid, files=["large.bin", "b.bin"]))
    assert partial != root
    assert sum(fetched) < 1_000_000
    assert files(partial) == {
        name: files(folder)[name] for name in ("large.bin", "b.bin")
    }


# Attempts ------------------------------------------------------------------


def test_stream_that_is_broken_off_leaves_what_a_load_uses(
    uid: str, fetched: list[int]
) -> None:
    stream = audmodel.stream(uid)
    for _ in range(2):
        next(stream)
    del stream
    fetched.clear()
    audmodel.load(uid)
    assert not any(model.unfinished for model in audmodel.cached())
    assert sum(fetched) < 9_500_000


# Streams and locks ---------------------------------------------------------


def test_stream_waits_for_no_other_process_when_all_files_were_given(
    uid: str, folder: Path
) -> None:
    whole = entry_of(uid).whole
    stream = audmodel.stream(uid)
    paths = [next(stream)]
    lock = Path(whole.folder.path).parent / ".1.0.0.lock"
    with filelock.FileLock(lock):
        start = time.monotonic()
        paths += list(stream)
        assert time.monotonic() - start < 5
    assert len(paths) == len(SIZES)
    assert files(audmodel.load(uid)) == files(folder)


def test_file_that_was_changed_after_it_was_given_is_not_taken_for_right(
    uid: str, folder: Path
) -> None:
    for path in audmodel.stream(uid):
        if path.endswith("b.bin"):
            with open(path, "r+b") as file:
                file.write(b"changed")
    assert files(audmodel.load(uid)) == files(folder)
    assert audmodel.verify(uid).ok


def test_lock_that_another_thread_lends_is_noticed_at_once(
    uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long the next reminder takes
    monkeypatch.setattr(locks, "_FIRST_NOTICE", 0.1)
    entry = entry_of(uid)
    done: list[float] = []

    def load() -> None:
        audmodel.load(uid, files="b.bin")
        done.append(time.monotonic())

    thread = threading.Thread(target=load)
    with entry.partial.lock(timeout=1):
        thread.start()
        time.sleep(0.3)
    with entry.partial.lock(timeout=1, reentrant=True):
        start = time.monotonic()
        thread.join(10)
    assert done
    assert done[0] - start < 3


def test_message_says_that_a_thread_of_this_process_holds_a_lock(uid: str) -> None:
    with (
        entry_of(uid).whole.lock(timeout=1),
        pytest.raises(audmodel.errors.LockTimeoutError, match="thread of this process"),
    ):
        audmodel.load(uid, timeout=0.1)


# Another archive -----------------------------------------------------------


def test_new_file_of_a_version_that_was_published_again(
    repository: audmodel.Repository, uid: str, folder: Path
) -> None:
    audmodel.load(uid, files="b.bin")
    (folder / "new.bin").write_bytes(b"new")
    publish_again(repository, folder)
    root = Path(audmodel.load(uid, files="new.bin"))
    assert files(root) == {"new.bin": files(folder)["new.bin"]}
    assert [Path(p).name for p in audmodel.stream(uid, files="new*")] == ["new.bin"]
    with audmodel.open(uid, "new.bin") as file:
        assert file.read() == (folder / "new.bin").read_bytes()


def test_repair_that_ends_early_makes_no_mixture(
    repository: audmodel.Repository,
    uid: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Path(audmodel.load(uid))
    old = files(folder)
    (root / "b.bin").write_bytes(b"damaged")
    publish_again(repository, folder)
    with monkeypatch.context() as patch:

        def fail(self: object, *args: object) -> None:
            raise OSError(5, "Input/output error")

        patch.setattr("audmodel.core.cache.staging.Staging.commit", fail)
        with pytest.raises(audmodel.errors.CacheError):
            audmodel.verify(uid, repair=True)
    found = files(root) if root.exists() else {}
    assert not set(found.values()) & set(files(folder).values()) or not set(
        found.values()
    ) & set(old.values())
    assert files(audmodel.load(uid)) == files(folder)


@pytest.mark.parametrize("call", ["load", "meta", "plan"])
def test_model_of_another_repository_is_an_error(
    repository: audmodel.Repository, uid: str, folder: Path, call: str
) -> None:
    root = Path(audmodel.load(uid))
    (root / "b.bin").unlink()
    publish_again(repository, folder)
    calls: dict[str, Callable[[], object]] = {
        "load": lambda: audmodel.load(uid),
        "meta": lambda: audmodel.meta(uid),
        "plan": lambda: audmodel.plan_load(uid),
    }
    with pytest.raises(ArchiveMismatchError, match="remove_cached"):
        calls[call]()
    audmodel.remove_cached(uid)
    calls[call]()
    assert files(audmodel.load(uid)) == files(folder)


def test_header_in_the_cache_is_listed_for_its_repository_only(
    repository: audmodel.Repository, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "host" / "other").mkdir()
    other = audmodel.Repository("other", repository.host, repository.backend)
    uid = publish(folder, author="first")
    publish(folder, author="second", repository=other)
    audmodel.load(uid)
    for place, author in ((other, "second"), (repository, "first")):
        (model,) = audmodel.models(repository=place)
        assert model.author == author


# Twins ---------------------------------------------------------------------


def test_repair_mends_both_names_of_a_file(uid: str, folder: Path) -> None:
    twin = Path(list(audmodel.stream(uid))[-1])
    root = Path(audmodel.load(uid))
    assert root not in twin.parents
    with open(root / "large.bin", "r+b") as file:
        file.write(b"damaged")
    assert audmodel.verify(uid, repair=True).ok
    assert twin.read_bytes() == (folder / "large.bin").read_bytes()
    shutil.rmtree(root)
    assert audmodel.verify(uid).damaged == []


def test_nothing_is_there(uid: str) -> None:
    for call in (audmodel.verify, audmodel.remove_cached):
        with pytest.raises(NotCachedError):
            call(uid)
    assert audmodel.cached() == []
    assert audmodel.plan_load(uid).files == len(SIZES)


# Guards --------------------------------------------------------------------


def test_kept_directory_with_any_bit_flipped_is_not_used(uid: str) -> None:
    audmodel.files(uid)
    entry = entry_of(uid)
    path = Path(entry.index.path)
    content = path.read_bytes()
    assert index.content(entry) is not None
    for position in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert index.content(entry) is None


def test_note_of_another_load_stays(uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(audmodel.load(uid))
    note = root.parent / ".1.0.0.unsynced"
    content = note.read_bytes()
    note.write_bytes(b"another start:" + content.partition(b":")[2])
    other = b"a third start:" + content.partition(b":")[2]
    is_right = Marker.is_right

    def late(self: Marker, head: bytes) -> bool:
        result = is_right(self, head)
        # Another process has loaded it again
        note.write_bytes(other)
        return result

    monkeypatch.setattr(Marker, "is_right", late)
    audmodel.load(uid)
    assert note.read_bytes() == other


def test_whole_model_that_appears_before_a_repair_is_left_alone(
    uid: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = Path(audmodel.load(uid, files="b.bin"))
    (partial / "b.bin").write_bytes(b"damaged")
    repair = verification.repair

    def late(found: Found, slot: Slot, options: LoadOptions) -> audmodel.Verification:
        # Another process loads the model, and a file of it is damaged
        root = Path(audmodel.load(uid))
        (root / "a" / "1.bin").write_bytes(bytes(1000))
        return repair(found, slot, options)

    monkeypatch.setattr(verification, "repair", late)
    result = audmodel.verify(uid, repair=True)
    assert not result.repaired
    assert not (partial / "a" / "1.bin").exists()
    assert Path(result.path, "a", "1.bin").read_bytes() == bytes(1000)
