r"""Load a model, or some of its files, from a repository into the cache."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Sequence
import contextlib
import errno
import logging
import os
import time
from typing import cast

from audmodel.core import disk
from audmodel.core.archive import comparing
from audmodel.core.archive import format
from audmodel.core.archive.names import find_collisions
from audmodel.core.archive.reader import Extractor
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.slot import Slot
from audmodel.core.cache.staging import Expected
from audmodel.core.cache.staging import Staging
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import CacheBusyError
from audmodel.core.operations import index
from audmodel.core.operations.archives import Archive
from audmodel.core.operations.archives import open_archive
from audmodel.core.operations.find import Found
from audmodel.core.operations.find import other_archive
from audmodel.core.operations.local import Local
from audmodel.core.operations.local import absent
from audmodel.core.operations.local import remains
from audmodel.core.operations.local import selected
from audmodel.core.progress import Progress
from audmodel.core.progress import StartProgress
from audmodel.core.progress import no_progress


logger = logging.getLogger("audmodel")


def load(
    found: Found,
    patterns: Sequence[str] | None,
    *,
    num_workers: int,
    start_progress: StartProgress,
) -> str:
    r"""Load a model, or some of its files, into its place in the cache.

    Args:
        found: the model, whose place in the cache is locked
        patterns: which files, all of them if it is ``None``
        num_workers: number of threads
        start_progress: called with the number of bytes of the files,
            gives a function that is called with the bytes that are done

    Returns:
        path of the folder that holds the files

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        DiskFullError: if the disk has less room than needed
        FileNotInModelError: if a pattern matches no file
        RepositoryError: if the archive cannot be read

    """
    start = time.monotonic()
    entry = found.entry
    with open_archive(found) as archive:
        check_same(archive)
        members: Sequence[format.Member] = archive.directory.files()
        slot = entry.whole if patterns is None else entry.partial
        if patterns is not None:
            members = selected(archive.directory, patterns, found.model)
            forget_other(archive)
            files = _load_some(archive, members, num_workers, start_progress)
            fetched = _result_of(files)
        elif (local := Local(entry)).is_finished:
            fetched = sum(member.size for member in local.missing)
            progress = start_progress(fetched)
            mend(archive, slot, local.missing, num_workers, progress)
        else:
            fetched = _load_all(archive, num_workers, start_progress)
        _log(archive, members, fetched, num_workers, start)
        return slot.folder.path


def _result_of(steps: Generator[str, None, int]) -> int:
    r"""Value that a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(int, end.value)


def _log(
    archive: Archive,
    members: Sequence[format.Member],
    fetched: int,
    num_workers: int,
    start: float,
) -> None:
    logger.info(
        "Loaded '%s' from %s in %.2f s: %d files of %d bytes, "
        "%d bytes of them fetched as %d bytes of the archive, by %d worker(s).",
        archive.entry.model,
        archive.url,
        time.monotonic() - start,
        len(members),
        sum(member.size for member in members),
        fetched,
        archive.reader.received,
        num_workers,
    )


def _load_all(
    archive: Archive,
    num_workers: int,
    start_progress: StartProgress,
    verified: Collection[str] = (),
) -> int:
    r"""Load all files, and take over those that a partial load brought.

    Those that were ``verified`` are not looked at again.

    Returns:
        bytes of the files that were fetched

    """
    entry, directory = archive.entry, archive.directory
    progress = start_progress(directory.size)
    members = directory.members
    unknown = [member for member in members if member.name not in verified]
    right = comparing.right_files(entry.partial.folder, unknown, num_workers)
    known = right.union(verified)
    progress(sum(member.size for member in members if member.name in known))
    missing = {member.name for member in members if member.name not in known}

    def attempt(*, private: bool) -> None:
        staging = entry.whole.stage(entry.partial, private=private)
        staging.prepare(expected(directory, missing))
        rest = missing | {
            member.name
            for member in directory.files()
            if member.name in known
            and not staging.reuse(
                entry.partial.folder, member.name, executable=member.executable
            )
        }
        _keep_parts(archive, staging, [entry.partial.folder], missing)
        extractor(archive, staging, rest, num_workers, progress).run()
        staging.commit((file.name, file.size, file.crc) for file in directory.files())
        forget_other(archive)

    try:
        attempt(private=False)
    except FileNotFoundError:
        # Another process removed the staging folder,
        # which happens only if the locks of the file system are broken
        if not entry.is_complete:
            attempt(private=True)
    return sum(member.size for member in members if member.name in missing)


def stream(
    found: Found,
    patterns: Sequence[str] | None,
    *,
    num_workers: int,
    ahead: int,
    start_progress: StartProgress,
) -> Generator[str, None, None]:
    r"""Load a model, or some of its files, one file after the other.

    The files lie where those of a partial load do, and stay there.
    In the end the whole model gets them as well, as second names.

    Args:
        found: the model, whose lock for some files is held
        patterns: which files, all of them if it is ``None``
        num_workers: number of threads
        ahead: largest number of files that are begun
            before they are asked for
        start_progress: called with the number of bytes of the files,
            gives a function that is called with the bytes that are done

    Yields:
        paths of the files, in the order of the archive

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        DiskFullError: if the disk has less room than needed
        FileNotInModelError: if a pattern matches no file
        RepositoryError: if the archive cannot be read

    """
    entry = found.entry
    start = time.monotonic()
    with open_archive(found) as archive:
        members: Sequence[format.Member] = archive.directory.files()
        if patterns is not None:
            members = selected(archive.directory, patterns, entry.model)
        check_same(archive)
        forget_other(archive)
        folder = entry.partial.folder
        fetched = {member.name for member in absent(folder, members)}
        given: dict[str, tuple[int, ...]] = {}
        files = _load_some(archive, members, num_workers, start_progress, ahead)
        with contextlib.closing(files):
            for member in members:
                path = next(files)
                if member.name in fetched:
                    given[member.name] = _identity(folder, member.name)
                yield path
            count = _result_of(files)
        _log(archive, members, count, num_workers, start)
        if patterns is None and not entry.is_complete:
            # The caller may have changed a file whose path it got
            same = [name for name in given if given[name] == _identity(folder, name)]
            # All files were given, so that no process has to wait for the rest
            with contextlib.suppress(CacheBusyError), entry.whole.lock(timeout=0):
                if not entry.verify():
                    _load_all(archive, num_workers, no_progress, same)


def _identity(folder: Folder, name: str) -> tuple[int, ...]:
    r"""Inode, size and times of a file, which differ if it was changed or replaced."""
    try:
        status = folder.status(name)
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load_some(
    archive: Archive,
    members: Sequence[format.Member],
    num_workers: int,
    start_progress: StartProgress,
    ahead: int | None = None,
) -> Generator[str, None, int]:
    r"""Load the missing ones of some files, and yield all paths in order.

    Returns:
        bytes of the files that were fetched

    """
    slot, whole = archive.entry.partial, archive.entry.whole
    missing = {member.name for member in absent(slot.folder, members)}
    progress = start_progress(sum(member.size for member in members))
    progress(sum(member.size for member in members if member.name not in missing))
    left = deque(members)
    # Another file of the model may be missing or wrong, which is why these are loaded
    absentees = [member for member in members if member.name in missing]
    right = comparing.right_files(whole.folder, absentees, num_workers)

    def attempt(*, private: bool) -> Generator[str, None, None]:
        staging = slot.stage(whole, private=private)
        files = [member for member in left if member.name in missing]
        wanted = {member.name for member in files}
        reused = _take_over(archive, staging, files, right, whole.folder, slot.folder)
        progress(sum(member.size for member in files if member.name in reused))
        extracting = extractor(
            archive, staging, wanted - reused, num_workers, progress, ahead
        )
        with contextlib.closing(extracting.files()) as finished:
            while left:
                name = left[0].name
                path = os.path.join(slot.folder.path, name)
                if name in reused:
                    path = staging.reveal(name)
                elif name in wanted:
                    path = staging.reveal(next(finished))
                left.popleft()
                slot.touch()
                yield path
            # To its end, as closing it early would end connections as well
            next(finished, None)
        staging.remove()

    try:
        yield from attempt(private=False)
    except FileNotFoundError:
        # Another process removed the staging folder, see above
        yield from attempt(private=True)
    return sum(member.size for member in members if member.name in missing)


def check_same(archive: Archive) -> None:
    r"""Raise an error if the model in the cache is that of another archive.

    Args:
        archive: the archive

    Raises:
        ArchiveMismatchError: if it is

    """
    if archive.is_other and archive.entry.verify():
        raise other_archive(archive.entry, archive.url)


def mend(
    archive: Archive,
    slot: Slot,
    members: Sequence[format.Member],
    num_workers: int,
    progress: Progress = lambda count: None,
) -> None:
    r"""Replace files in a folder that is in use, each as one step.

    What is right of a large file is not fetched,
    nor a file that is right in the other place of the model,
    nor what an attempt has brought that ended early.

    Args:
        archive: the archive
        slot: place of the folder, whose lock is held
        members: files that are wrong
        num_workers: number of threads
        progress: called with the bytes that are done

    Raises:
        FileNotFoundError: if the folder was removed

    """
    other = _other(archive.entry, slot)
    right = comparing.right_files(other.folder, members, num_workers)

    def attempt(*, private: bool) -> None:
        names = {member.name for member in members}
        staging = slot.stage(other, private=private)
        reused = _take_over(archive, staging, members, right, other.folder, slot.folder)
        extractor(archive, staging, names - reused, num_workers, progress).run()
        if not slot.folder.exists():
            # Should locks be broken: some files must not become a whole model
            raise FileNotFoundError(errno.ENOENT, "It was removed", slot.folder.path)
        for name in names:
            staging.reveal(name)
        staging.remove()

    try:
        attempt(private=False)
    except FileNotFoundError:
        # Another process took the attempt away, see above
        if not slot.folder.exists():
            raise
        attempt(private=True)


def _take_over(
    archive: Archive,
    staging: Staging,
    members: Sequence[format.Member],
    right: Collection[str],
    other: Folder,
    own: Folder,
) -> set[str]:
    r"""Put into a staging folder what the cache has of files.

    Args:
        archive: the archive
        staging: staging folder, which is prepared for the files
        members: files that are wrong or missing
        right: names of files that are right in the other folder
        other: folder of the other place of the model
        own: folder of the place that the files are for

    Returns:
        names of files that are complete

    """
    staging.prepare(expected(archive.directory, {member.name for member in members}))
    reused = {
        member.name
        for member in members
        if member.name in right
        and staging.reuse(other, member.name, executable=member.executable)
    }
    rest = {member.name for member in members if member.name not in right}
    _keep_parts(archive, staging, [own, other], rest)
    return reused


def _keep_parts(
    archive: Archive, staging: Staging, folders: Sequence[Folder], names: set[str]
) -> None:
    r"""Copy files of which something may be right, so that only the rest is fetched.

    Args:
        archive: the archive
        staging: where to, what is there already stays
        folders: folders of the model, the first one that has a file counts
        names: names of files that are wrong or missing

    """
    members = [m for m in archive.directory.files() if m.name in names]
    found = remains(folders, members)
    for member in members:
        name = member.name
        if name in found and staging.folder.size(name) is None:
            # Files that cannot be read are fetched
            with contextlib.suppress(OSError):
                staging.copy(found[name], name, executable=member.executable)
                staging.folder.truncate(name, member.size)


def _other(entry: CacheEntry, slot: Slot) -> Slot:
    r"""Place of some files of a model, or of the whole."""
    is_whole = slot.folder.path == entry.whole.folder.path
    return entry.partial if is_whole else entry.whole


def replace(archive: Archive, slot: Slot, num_workers: int) -> None:
    r"""Load from another archive than the one that is in the cache.

    Files of both are never together in a folder.

    Args:
        archive: the archive
        slot: place of the model, or of some files, whose lock is held
        num_workers: number of threads

    """
    if slot is archive.entry.whole:
        slot.set_aside()
        _load_all(archive, num_workers, no_progress)
        return
    names = set(slot.folder.files())
    members = [m for m in archive.directory.files() if m.name in names]
    forget_other(archive)
    for _ in _load_some(archive, members, num_workers, no_progress):
        pass
    slot.tidy()


def forget_other(archive: Archive) -> None:
    r"""Remove some files of another archive that the repository had before.

    Args:
        archive: the archive, the model or some files of which are loaded

    Raises:
        CacheError: if the cache cannot be changed

    """
    if archive.is_other:
        archive.entry.partial.remove()
        index.keep(archive.entry, archive.index)


def expected(directory: format.Directory, names: set[str]) -> dict[str, Expected]:
    r"""Expected size and permissions of some files, by name."""
    return {
        member.name: Expected(member.size, member.executable)
        for member in directory.files()
        if member.name in names
    }


def extractor(
    archive: Archive,
    staging: Staging,
    names: set[str],
    num_workers: int,
    progress: Progress = lambda count: None,
    ahead: int | None = None,
) -> Extractor:
    r"""Extractor of members of an archive, which keeps parts that are right already.

    Args:
        archive: the archive
        staging: where to
        names: names of the members
        num_workers: number of threads
        progress: called with the bytes that are done
        ahead: largest number of files that are begun
            before they are asked for

    Returns:
        extractor, which has done nothing yet

    Raises:
        ArchiveError: if two names of files are the same for the file system

    """
    _check_distinct(archive.directory, staging)
    return Extractor(
        archive.reader,
        archive.directory,
        staging.folder,
        num_workers=num_workers,
        resume=staging.resumed,
        only=names,
        ahead=ahead,
        is_slow=disk.is_shared(staging.path),
        progress=progress,
    )


def _check_distinct(directory: format.Directory, staging: Staging) -> None:
    r"""Raise an error if the cache takes two names of files for one."""
    # Earlier releases published what not every file system can hold
    paths = (member.name for member in directory.files())
    for first, second in find_collisions(paths):
        if not staging.distinguishes(first, second):
            raise ArchiveError(
                f"{first!r} and {second!r} collide on the file system of the cache. "
                "Use a cache on a file system that distinguishes them"
            )
