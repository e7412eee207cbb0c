"""A lock excludes others, is entered again by the caller, and leaves nothing open."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
import threading
import time

import pytest

from audmodel.core.cache import locks
from audmodel.core.cache.tree import Folder
from audmodel.errors import LockTimeoutError
from tests.threads import only_here


NAME = ".1.0.0.lock"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


def test_lock_keeps_others_away(folder: Folder) -> None:
    with locks.hold(folder, NAME, timeout=0) as excludes:
        assert excludes
        with (
            pytest.raises(LockTimeoutError, match="Another thread of this process"),
            locks.hold(folder, NAME, timeout=0),
        ):
            pass
    with locks.hold(folder, NAME, timeout=0) as excludes:
        assert excludes


def test_reentrant_lock_is_entered_again_unless_it_has_to_exclude(
    folder: Folder,
) -> None:
    with locks.hold(folder, NAME, timeout=0, reentrant=True):
        with locks.hold(folder, NAME, timeout=0) as excludes:
            assert not excludes
        # Leaving it does not release it
        with (
            pytest.raises(LockTimeoutError),
            locks.hold(folder, NAME, timeout=0, reenter=False),
        ):
            pass
    with locks.hold(folder, NAME, timeout=0, reenter=False) as excludes:
        assert excludes


def test_nothing_stays_open(folder: Folder) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with (
            locks.hold(folder, NAME, timeout=0, reentrant=True),
            locks.hold(folder, NAME, timeout=0),
            pytest.raises(LockTimeoutError),
            locks.hold(folder, NAME, timeout=0, reenter=False),
        ):
            pass
    assert os.listdir("/proc/self/fd") == before


def test_wait_ends_when_the_lock_is_free(folder: Folder) -> None:
    free, taken = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.hold(folder, NAME, timeout=0):
            taken.set()
            free.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(20)
    timer = threading.Timer(0.2, free.set)
    timer.start()
    with locks.hold(folder, NAME, timeout=20) as excludes:
        assert excludes
        assert free.is_set()
    thread.join()


@pytest.mark.parametrize("timeout", [0.12, 1.0])
def test_wait_leaves_the_processor_to_others(
    folder: Folder, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    now = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        assert seconds > 0
        pauses.append(seconds)
        now += seconds

    with locks.hold(folder, NAME, timeout=0):
        monkeypatch.setattr(time, "sleep", only_here(time.sleep, sleep))
        monkeypatch.setattr(time, "monotonic", only_here(time.monotonic, lambda: now))
        with pytest.raises(LockTimeoutError), locks.hold(folder, NAME, timeout=timeout):
            pass
    assert sum(pauses) == pytest.approx(timeout)
    assert max(pauses) == locks._POLL
    assert len(pauses) <= timeout / locks._POLL + 2


def test_lock_file_that_is_removed_is_no_lock(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    removed: list[bool] = []

    def remove_first(fd: int, how: int) -> None:
        flock(fd, how)
        if not removed:
            removed.append(True)
            (tmp_path / NAME).unlink()

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with locks.hold(folder, NAME, timeout=5) as excludes:
        assert excludes
        assert (tmp_path / NAME).exists()


def test_file_system_without_locks(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with locks.hold(folder, NAME, timeout=0) as excludes:
        assert not excludes
    assert "has no file locks" in caplog.text
    assert os.listdir("/proc/self/fd") == before


def test_file_system_whose_locks_do_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: None)
    with locks.hold(folder, NAME, timeout=0) as excludes:
        assert not excludes
    assert os.listdir("/proc/self/fd") == before


def test_progress_of_the_holder_is_shown(folder: Folder) -> None:
    seen: list[tuple[int, int]] = []
    with locks.hold(folder, NAME, timeout=0):
        locks.note_progress(folder, NAME, 3_000_000, 12_000_000)
        with (
            pytest.raises(LockTimeoutError, match=r"0.8 s, 3.0 MB of 12.0 MB so far"),
            locks.hold(
                folder,
                NAME,
                timeout=0.8,
                waiting=lambda done, total: seen.append((done, total)),
            ),
        ):
            pass
        # The holder has not lost its lock by writing
        with pytest.raises(LockTimeoutError), locks.hold(folder, NAME, timeout=0):
            pass
    assert seen == [(3_000_000, 12_000_000)]


@pytest.mark.parametrize("content", [b"", b"1", b"1 2", b"-1 2\n", b"a b\n", b"1" * 99])
def test_other_content_is_no_progress(content: bytes, folder: Folder) -> None:
    Path(folder.path, NAME).write_bytes(content)
    assert locks.read_progress(folder, NAME) is None


def test_progress_of_an_earlier_holder_is_forgotten(folder: Folder) -> None:
    with locks.hold(folder, NAME, timeout=0):
        locks.note_progress(folder, NAME, 1, 2)
        assert locks.read_progress(folder, NAME) == (1, 2)
    # Earlier releases leave it empty as well
    assert Path(folder.path, NAME).read_bytes() == b""
    locks.note_progress(folder, NAME, 1, 2)
    with locks.hold(folder, NAME, timeout=0):
        assert locks.read_progress(folder, NAME) is None
