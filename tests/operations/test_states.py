"""What each function does with each state of a model in the cache.

The table below is the test: it says for each state what each function hands out,
fetches and leaves, if the state is that of the folder of the whole model,
and if it is that of the folder of some files.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import itertools
import os
from pathlib import Path
import random
import subprocess
from typing import NamedTuple

import filelock
import pytest

import audmodel
from audmodel.core.backend.reader import TAIL
from audmodel.core.backend.reader import FileReader
from audmodel.core.cache import marker
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.operations.test_partial import publish_again


LARGE = "large.bin"
ANOTHER = "sub/run.sh"
SIZES = {"first.bin": 200_000, LARGE: 5_000_000, ANOTHER: 300_000}
PART = 4 << 20
# What can be fetched alone
PIECES = {
    "first": SIZES["first.bin"],
    "large": SIZES[LARGE],
    "part 2": SIZES[LARGE] - PART,
    "another": SIZES[ANOTHER],
}
LONG_AGO = 1_000_000_000.0

# Each cell says which folder the result is in, what was fetched,
# whether what was handed out is wrong, or of the archive that came later,
# and whether an attempt to load something is left.
TABLE = """
as loaded / without directory / power failed
  load                   | whole: nothing             | whole: nothing
  load(files=large)      | whole: nothing             | some: nothing
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: nothing             | whole: nothing
  stream                 | whole: nothing             | some: nothing
  stream(files=large)    | whole: nothing             | some: nothing
  open(large)            | nothing                    | nothing
  files                  | all                        | all
  verify                 | right                      | right
  verify(repair)         | right                      | right
  plan_load              | nothing                    | nothing
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

missing
  load                   | whole: large               | whole: large
  load(files=large)      | some: large                | some: large
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: large               | whole: large
  stream                 | some: large                | some: large
  stream(files=large)    | some: large                | some: large
  open(large)            | large                      | large
  files                  | all                        | all
  verify                 | missing                    | right
  verify(repair)         | missing -> right: large    | right
  plan_load              | large                      | large
  plan_load(files=large) | large                      | large
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

all missing / only folders left
  load                   | whole: all                 | whole: all
  load(files=large)      | some: large                | some: large
  load(files=another)    | some: another              | some: another
  load([uid])            | whole: all                 | whole: all
  stream                 | some: all                  | some: all
  stream(files=large)    | some: large                | some: large
  open(large)            | large                      | large
  files                  | all                        | all
  verify                 | missing                    | right
  verify(repair)         | missing -> right: all      | right
  plan_load              | all                        | all
  plan_load(files=large) | large                      | large
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

pipe / folder / link
  load                   | whole: large               | whole: large
  load(files=large)      | some: large                | some: large
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: large               | whole: large
  stream                 | some: large                | some: large
  stream(files=large)    | some: large                | some: large
  open(large)            | large                      | large
  files                  | all                        | all
  verify                 | kind                       | kind
  verify(repair)         | kind -> right: large       | kind -> right: large
  plan_load              | large                      | large
  plan_load(files=large) | large                      | large
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

extra
  load                   | whole: nothing             | whole: nothing
  load(files=large)      | whole: nothing             | some: nothing
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: nothing             | whole: nothing
  stream                 | whole: nothing             | some: nothing
  stream(files=large)    | whole: nothing             | some: nothing
  open(large)            | nothing                    | nothing
  files                  | all                        | all
  verify                 | extra                      | extra
  verify(repair)         | extra                      | extra
  plan_load              | nothing                    | nothing
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

truncated
  load                   | whole: part 2              | whole: part 2
  load(files=large)      | some: part 2               | some: part 2
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: part 2              | whole: part 2
  stream                 | some: part 2               | some: part 2
  stream(files=large)    | some: part 2               | some: part 2
  open(large)            | large                      | large
  files                  | all                        | all
  verify                 | size                       | size
  verify(repair)         | size -> right: part 2      | size -> right: part 2
  plan_load              | part 2                     | part 2
  plan_load(files=large) | part 2                     | part 2
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

changed
  load                   | whole: nothing, wrong      | whole: part 2
  load(files=large)      | whole: nothing, wrong      | some: nothing, wrong
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: nothing, wrong      | whole: part 2
  stream                 | whole: nothing, wrong      | some: part 2, wrong
  stream(files=large)    | whole: nothing, wrong      | some: nothing, wrong
  open(large)            | nothing, wrong             | nothing, wrong
  files                  | all                        | all
  verify                 | content                    | content
  verify(repair)         | content -> right: part 2   | content -> right: part 2
  plan_load              | nothing                    | part 2
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

other mode
  load                   | whole: nothing             | whole: nothing
  load(files=large)      | whole: nothing             | some: nothing
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: nothing             | whole: nothing
  stream                 | whole: nothing             | some: nothing
  stream(files=large)    | whole: nothing             | some: nothing
  open(large)            | nothing                    | nothing
  files                  | all                        | all
  verify                 | mode                       | mode
  verify(repair)         | mode -> right              | mode -> right
  plan_load              | nothing                    | nothing, estimated
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

other archive
  load                   | whole: nothing             | whole: all, new
  load(files=large)      | whole: nothing             | some: nothing
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: nothing             | whole: all, new
  stream                 | whole: nothing             | some: all, new
  stream(files=large)    | whole: nothing             | some: nothing
  open(large)            | nothing                    | nothing
  files                  | all                        | all
  verify                 | right                      | right
  verify(repair)         | right                      | right
  plan_load              | nothing                    | all
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

other archive, missing
  load                   | ArchiveMismatchError       | whole: all, new
  load(files=large)      | ArchiveMismatchError       | some: large, new
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | ArchiveMismatchError       | whole: all, new
  stream                 | ArchiveMismatchError       | some: all, new
  stream(files=large)    | ArchiveMismatchError       | some: large, new
  open(large)            | ArchiveMismatchError       | large, new
  files                  | all                        | all
  verify                 | missing                    | right
  verify(repair)         | content, missing -> right: all | right
  plan_load              | ArchiveMismatchError       | all
  plan_load(files=large) | ArchiveMismatchError       | large
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

power failed, changed
  load                   | whole: part 2              | whole: part 2
  load(files=large)      | some: part 2               | some: nothing, wrong
  load(files=another)    | some: nothing              | some: nothing
  load([uid])            | whole: part 2              | whole: part 2
  stream                 | some: part 2               | some: part 2, wrong
  stream(files=large)    | some: part 2               | some: nothing, wrong
  open(large)            | large                      | nothing, wrong
  files                  | all                        | all
  verify                 | content                    | content
  verify(repair)         | content -> right: part 2   | content -> right: part 2
  plan_load              | part 2, estimated          | part 2
  plan_load(files=large) | part 2, estimated          | nothing
  cached                 | whole                      | some
  prune_cache            | whole                      | some
  remove_cached          | whole                      | some

unfinished
  load                   | whole: part 2 + another    | whole: part 2 + another
  load(files=large)      | some: part 2 (attempt)     | some: part 2
  load(files=another)    | some: another (attempt)    | some: another (attempt)
  load([uid])            | whole: part 2 + another    | whole: part 2 + another
  stream                 | some: part 2 + another     | some: part 2 + another
  stream(files=large)    | some: part 2 (attempt)     | some: part 2
  open(large)            | large (attempt)            | large (attempt)
  files                  | all (attempt)              | all (attempt)
  verify                 | NotCachedError             | right (attempt)
  verify(repair)         | NotCachedError             | right (attempt)
  plan_load              | part 2 + another           | part 2 + another
  plan_load(files=large) | part 2                     | part 2
  cached                 | attempt (attempt)          | some, attempt (attempt)
  prune_cache            | attempt                    | some, attempt
  remove_cached          | attempt                    | some, attempt

missing, unfinished
  load                   | whole: part 2              | whole: part 2
  load(files=large)      | some: part 2               | some: part 2
  load(files=another)    | whole: nothing (attempt)   | some: nothing (attempt)
  load([uid])            | whole: part 2              | whole: part 2
  stream                 | some: part 2               | some: part 2
  stream(files=large)    | some: part 2               | some: part 2
  open(large)            | large (attempt)            | large (attempt)
  files                  | all (attempt)              | all (attempt)
  verify                 | missing (attempt)          | right (attempt)
  verify(repair)         | missing -> right: part 2   | right (attempt)
  plan_load              | part 2                     | part 2
  plan_load(files=large) | part 2                     | part 2
  cached                 | whole, attempt (attempt)   | some, attempt (attempt)
  prune_cache            | whole, attempt             | some, attempt
  remove_cached          | whole, attempt             | some, attempt

in use
  load                   | whole: nothing             | whole: nothing
  load(files=large)      | whole: nothing             | some: nothing
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | whole: nothing             | whole: nothing
  stream                 | whole: nothing             | LockTimeoutError
  stream(files=large)    | whole: nothing             | some: nothing
  open(large)            | nothing                    | nothing
  files                  | all                        | all
  verify                 | right                      | right
  verify(repair)         | right                      | right
  plan_load              | nothing                    | nothing
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | some
  prune_cache            | nothing                    | nothing
  remove_cached          | CacheBusyError             | CacheBusyError

in use, missing
  load                   | LockTimeoutError           | whole: large
  load(files=large)      | some: large                | LockTimeoutError
  load(files=another)    | whole: nothing             | some: nothing
  load([uid])            | LockTimeoutError           | whole: large
  stream                 | some: large                | LockTimeoutError
  stream(files=large)    | some: large                | LockTimeoutError
  open(large)            | large                      | large
  files                  | all                        | all
  verify                 | missing                    | right
  verify(repair)         | LockTimeoutError           | right
  plan_load              | large                      | large
  plan_load(files=large) | large                      | large
  cached                 | whole                      | some
  prune_cache            | nothing                    | nothing
  remove_cached          | CacheBusyError             | CacheBusyError

in use, unfinished
  load                   | LockTimeoutError           | whole: large + another (attempt)
  load(files=large)      | some: large (attempt)      | LockTimeoutError
  load(files=another)    | some: another (attempt)    | LockTimeoutError
  load([uid])            | LockTimeoutError           | whole: large + another (attempt)
  stream                 | some: all (attempt)        | LockTimeoutError
  stream(files=large)    | some: large (attempt)      | LockTimeoutError
  open(large)            | large (attempt)            | large (attempt)
  files                  | all (attempt)              | all (attempt)
  verify                 | NotCachedError             | right (attempt)
  verify(repair)         | NotCachedError             | right (attempt)
  plan_load              | all                        | large + another
  plan_load(files=large) | large                      | large
  cached                 | attempt (attempt)          | some, attempt (attempt)
  prune_cache            | nothing (attempt)          | nothing (attempt)
  remove_cached          | CacheBusyError             | CacheBusyError

twin
  load                   | whole: nothing             | whole: nothing
  load(files=large)      | whole: nothing             | whole: nothing
  load(files=another)    | whole: nothing             | whole: nothing
  load([uid])            | whole: nothing             | whole: nothing
  stream                 | whole: nothing             | whole: nothing
  stream(files=large)    | whole: nothing             | whole: nothing
  open(large)            | nothing                    | nothing
  files                  | all                        | all
  verify                 | right                      | right
  verify(repair)         | right                      | right
  plan_load              | nothing                    | nothing
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | whole
  prune_cache            | whole                      | whole
  remove_cached          | whole                      | whole

twin, both damaged
  load                   | whole: nothing, wrong      | whole: nothing, wrong
  load(files=large)      | whole: nothing, wrong      | whole: nothing, wrong
  load(files=another)    | whole: nothing             | whole: nothing
  load([uid])            | whole: nothing, wrong      | whole: nothing, wrong
  stream                 | whole: nothing, wrong      | whole: nothing, wrong
  stream(files=large)    | whole: nothing, wrong      | whole: nothing, wrong
  open(large)            | nothing, wrong             | nothing, wrong
  files                  | all                        | all
  verify                 | content                    | content
  verify(repair)         | content -> right: part 2   | content -> right: part 2
  plan_load              | nothing                    | nothing
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | whole
  prune_cache            | whole                      | whole
  remove_cached          | whole                      | whole

twin, one damaged
  load                   | whole: nothing, wrong      | whole: nothing
  load(files=large)      | whole: nothing, wrong      | whole: nothing
  load(files=another)    | whole: nothing             | whole: nothing
  load([uid])            | whole: nothing, wrong      | whole: nothing
  stream                 | whole: nothing, wrong      | whole: nothing
  stream(files=large)    | whole: nothing, wrong      | whole: nothing
  open(large)            | nothing, wrong             | nothing
  files                  | all                        | all
  verify                 | content                    | right
  verify(repair)         | content -> right           | right
  plan_load              | nothing                    | nothing
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | whole
  prune_cache            | whole                      | whole
  remove_cached          | whole                      | whole

twin, one missing
  load                   | whole: nothing             | whole: nothing
  load(files=large)      | some: nothing              | whole: nothing
  load(files=another)    | whole: nothing             | whole: nothing
  load([uid])            | whole: nothing             | whole: nothing
  stream                 | some: nothing              | whole: nothing
  stream(files=large)    | some: nothing              | whole: nothing
  open(large)            | nothing                    | nothing
  files                  | all                        | all
  verify                 | missing                    | right
  verify(repair)         | missing -> right           | right
  plan_load              | nothing                    | nothing
  plan_load(files=large) | nothing                    | nothing
  cached                 | whole                      | whole
  prune_cache            | whole                      | whole
  remove_cached          | whole                      | whole
"""


class DeathError(BaseException):
    """A process is killed."""


class Place(NamedTuple):
    """Folders of a model in a cache, one of which is in some state."""

    uid: str
    repository: audmodel.Repository
    published: Path
    cache: Path
    mode: str

    @property
    def whole(self) -> Path:
        return self.cache.joinpath(*self.uid.split("-"))

    @property
    def partial(self) -> Path:
        return self.whole.with_name(".1.0.0+files")

    @property
    def folder(self) -> Path:
        return self.whole if self.mode == "whole" else self.partial

    @property
    def lock(self) -> Path:
        name = "1.0.0" if self.mode == "whole" else "1.0.0+files"
        return self.whole.with_name(f".{name}.lock")

    @property
    def attempts(self) -> list[Path]:
        return list(self.whole.parent.glob(".1.0.0*~*"))

    def load(self, mode: str = "") -> None:
        patterns = None if (mode or self.mode) == "whole" else "*"
        audmodel.load(self.uid, files=patterns, cache_root=str(self.cache))


# States --------------------------------------------------------------------


def as_loaded(place: Place) -> None:
    place.load()


def without_directory(place: Place) -> None:
    place.load()
    place.whole.with_name(".1.0.0+index").unlink()


def missing(place: Place) -> None:
    place.load()
    (place.folder / LARGE).unlink()


def all_missing(place: Place) -> None:
    only_folders(place)
    (place.folder / ANOTHER).parent.rmdir()


def only_folders(place: Place) -> None:
    place.load()
    for name in SIZES:
        (place.folder / name).unlink()


def pipe(place: Place) -> None:
    missing(place)
    os.mkfifo(place.folder / LARGE)


def below(place: Place) -> None:
    missing(place)
    (place.folder / LARGE / "below").mkdir(parents=True)


def link(place: Place) -> None:
    place.load()
    (place.folder / LARGE).replace(place.folder.parent / "elsewhere")
    (place.folder / LARGE).symlink_to(place.folder.parent / "elsewhere")


def extra(place: Place) -> None:
    place.load()
    (place.folder / "extra.bin").write_bytes(b"extra")


def truncated(place: Place) -> None:
    place.load()
    os.truncate(place.folder / LARGE, PART + 1000)


def changed(place: Place) -> None:
    place.load()
    change(place.folder / LARGE)


def change(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(PART + 1000)
        file.write(b"changed")


def other_archive(place: Place) -> None:
    place.load()
    publish_again(place.repository, place.published)


def other_archive_and_missing(place: Place) -> None:
    missing(place)
    publish_again(place.repository, place.published)


def other_mode(place: Place) -> None:
    place.load()
    (place.folder / "sub" / "run.sh").chmod(0o644)


def power_failed(place: Place) -> None:
    place.load()
    note = place.whole.with_name(".1.0.0.unsynced")
    if note.exists():
        _, _, rest = note.read_bytes().partition(b":")
        note.write_bytes(b"another start:" + rest)


def power_failed_and_changed(place: Place) -> None:
    power_failed(place)
    change(place.folder / LARGE)


def unfinished(place: Place) -> None:
    die(place.load)
    assert len(place.attempts) == 1


def die(load: Callable[[], object]) -> None:
    """End a load after the first part of the large file."""
    left = 1
    readinto = FileReader._readinto

    def dying(self: FileReader, offset: int, view: memoryview) -> None:
        nonlocal left
        if left == 0:
            raise DeathError
        left -= len(view) > SIZES["first.bin"] * 2
        readinto(self, offset, view)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(DeathError):
        patch.setattr(FileReader, "_readinto", dying)
        load()


def missing_and_unfinished(place: Place) -> None:
    """A load of the missing file into the other folder has ended early."""
    missing(place)
    patterns = LARGE if place.mode == "whole" else None
    die(lambda: audmodel.load(place.uid, files=patterns, cache_root=str(place.cache)))
    assert len(place.attempts) == 1


def twin(place: Place) -> None:
    """Load into both folders, which share their files."""
    place.load("partial")
    place.load("whole")
    assert (place.whole / LARGE).samefile(place.partial / LARGE)


def twin_damaged(place: Place) -> None:
    twin(place)
    change(place.folder / LARGE)


def one_damaged(place: Place) -> None:
    twin(place)
    content = (place.folder / LARGE).read_bytes()
    (place.folder / LARGE).unlink()
    (place.folder / LARGE).write_bytes(content)
    change(place.folder / LARGE)


def one_missing(place: Place) -> None:
    twin(place)
    (place.folder / LARGE).unlink()


STATES: dict[str, Callable[[Place], None]] = {
    "as loaded": as_loaded,
    "without directory": without_directory,
    "missing": missing,
    "all missing": all_missing,
    "only folders left": only_folders,
    "pipe": pipe,
    "folder": below,
    "link": link,
    "extra": extra,
    "truncated": truncated,
    "changed": changed,
    "other mode": other_mode,
    "other archive": other_archive,
    "other archive, missing": other_archive_and_missing,
    "power failed": power_failed,
    "power failed, changed": power_failed_and_changed,
    "unfinished": unfinished,
    "missing, unfinished": missing_and_unfinished,
    "in use": as_loaded,
    "in use, missing": missing,
    "in use, unfinished": unfinished,
    "twin": twin,
    "twin, both damaged": twin_damaged,
    "twin, one damaged": one_damaged,
    "twin, one missing": one_missing,
}


# Functions -----------------------------------------------------------------


def load(place: Place) -> Path:
    return Path(audmodel.load(place.uid, timeout=0.1), LARGE)


def load_large(place: Place) -> Path:
    return Path(audmodel.load(place.uid, files=LARGE, timeout=0.1), LARGE)


def load_another(place: Place) -> Path:
    return Path(audmodel.load(place.uid, files=ANOTHER, timeout=0.1), ANOTHER)


def load_list(place: Place) -> Path:
    (path,) = audmodel.load([place.uid], timeout=0.1)
    return Path(path, LARGE)


def stream(place: Place) -> Path:
    first, large, another = map(Path, audmodel.stream(place.uid, timeout=0.1))
    assert first.parent == large.parent == another.parent.parent
    return large


def stream_large(place: Place) -> Path:
    (path,) = audmodel.stream(place.uid, files=LARGE, timeout=0.1)
    return Path(path)


def open_large(place: Place) -> bytes:
    with audmodel.open(place.uid, LARGE, timeout=0.1) as file:
        assert file.size == SIZES[LARGE]
        return file.read()


def list_files(place: Place) -> str:
    found = {file.path: file.size for file in audmodel.files(place.uid)}
    return "all" if found == SIZES else str(found)


def verify(place: Place) -> str:
    return found(audmodel.verify(place.uid, timeout=0.1))


def found(result: audmodel.Verification) -> str:
    problems = [file.problem for file in result.damaged] + ["extra"] * len(result.extra)
    return ", ".join(sorted(set(problems))) or "right"


def repair(place: Place) -> str:
    before = found(audmodel.verify(place.uid, repair=True, timeout=0.1))
    after = found(audmodel.verify(place.uid, timeout=0.1))
    return f"{before} -> {after}" if before != after else before


def plan(place: Place) -> audmodel.Transfer:
    return audmodel.plan_load(place.uid)


def plan_large(place: Place) -> audmodel.Transfer:
    return audmodel.plan_load(place.uid, files=LARGE)


def cached(place: Place) -> str:
    return kinds(audmodel.cached())


def prune(place: Place) -> str:
    return kinds(audmodel.prune_cache(max_size=0))


def remove(place: Place) -> str:
    return kinds(audmodel.remove_cached(place.uid))


def kinds(models: list[audmodel.CachedModel]) -> str:
    names = {(False, False): "whole", (True, False): "some", (True, True): "attempt"}
    shown = [names[model.partial, model.unfinished] for model in models]
    return ", ".join(shown) or "nothing"


FUNCTIONS: dict[str, Callable[[Place], object]] = {
    "load": load,
    "load(files=large)": load_large,
    "load(files=another)": load_another,
    "load([uid])": load_list,
    "stream": stream,
    "stream(files=large)": stream_large,
    "open(large)": open_large,
    "files": list_files,
    "verify": verify,
    "verify(repair)": repair,
    "plan_load": plan,
    "plan_load(files=large)": plan_large,
    "cached": cached,
    "prune_cache": prune,
    "remove_cached": remove,
}


# Test ----------------------------------------------------------------------


def parse(table: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Cells by state and function, for the whole model and for some files."""
    rows: dict[str, dict[str, tuple[str, str]]] = {}
    for block in table.strip().split("\n\n"):
        states, *lines = block.splitlines()
        cells = ([cell.strip() for cell in line.split("|")] for line in lines)
        row = {function: (whole, some) for function, whole, some in cells}
        rows.update(dict.fromkeys(states.split(" / "), row))
    return rows


def answer(
    place: Place, function: Callable[[Place], object], fetched: list[int]
) -> str:
    """What a function says, hands out, fetches, and leaves."""
    fetched.clear()
    try:
        result = function(place)
    except audmodel.errors.AudmodelError as error:
        return type(error).__name__
    what = named(sum(fetched))
    if isinstance(result, audmodel.Transfer):
        # The end of the archive comes with opening it
        what = named(max(0, result.bytes - TAIL))
        return what if result.exact else f"{what}, estimated"
    if isinstance(result, Path):
        folder = place.whole if place.whole in result.parents else place.partial
        assert is_used(folder)
        kind = "whole" if folder == place.whole else "some"
        text = f"{kind}: {what}{quality(place, result.read_bytes())}"
    elif isinstance(result, bytes):
        assert fetched or is_used(place.whole) or is_used(place.partial)
        text = f"{what}{quality(place, result)}"
    else:
        text = f"{result}{f': {what}' if fetched else ''}"
    return f"{text} (attempt)" if place.attempts else text


def named(count: int) -> str:
    """What was fetched, by the number of bytes."""
    for number in range(len(PIECES)):
        for names in itertools.combinations(PIECES, number):
            # Each file has a header in the archive
            if 0 <= count - sum(PIECES[name] for name in names) < 1000:
                is_all = {*names} == {"first", "large", "another"}
                return "all" if is_all else " + ".join(names) or "nothing"
    return f"{count} bytes"


def is_used(folder: Path) -> bool:
    """Whether it was noted that a folder is used."""
    return folder.exists() and folder.stat().st_mtime > LONG_AGO


def quality(place: Place, content: bytes) -> str:
    """Whether a file is what was published, nothing if it is."""
    if content in files(place.published.with_name("first")).values():
        return ""
    return ", new" if content in files(place.published).values() else ", wrong"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for number, (name, size) in enumerate(SIZES.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(random.Random(number).randbytes(size))
    (root / ANOTHER).chmod(0o755)
    # It stays when the model is published again
    subprocess.run(["cp", "-a", root, tmp_path / "first"], check=True)
    return root


@pytest.mark.sample(8)
@pytest.mark.parametrize("mode", ["whole", "some"])
@pytest.mark.parametrize("state", STATES)
def test_states(
    repository: audmodel.Repository,
    folder: Path,
    tmp_path: Path,
    fetched: list[int],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    mode: str,
) -> None:
    monkeypatch.setattr(marker, "_verified", set())
    place = Place(publish(folder), repository, folder, tmp_path / "template", mode)
    STATES[state](place)
    for path in filter(Path.exists, (place.whole, place.partial)):
        os.utime(path, (LONG_AGO, LONG_AGO))
    answers = {}
    for name, function in FUNCTIONS.items():
        copy = place._replace(cache=tmp_path / function.__name__)
        subprocess.run(["cp", "-a", place.cache, copy.cache], check=True)
        audmodel.config.CACHE_ROOT = str(copy.cache)
        with contextlib.ExitStack() as stack:
            if state.startswith("in use"):
                stack.enter_context(filelock.FileLock(copy.lock))
            answers[name] = answer(copy, function, fetched)
    expected = parse(TABLE)[state]
    assert answers == {name: expected[name][mode == "some"] for name in FUNCTIONS}
