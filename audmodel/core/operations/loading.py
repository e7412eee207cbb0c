r"""Load a model, or some of its files, from a repository into the cache."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Sequence
import contextlib
import dataclasses
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
from audmodel.core.operations import seeds
from audmodel.core.operations.archives import Archive
from audmodel.core.operations.archives import open_archive
from audmodel.core.operations.find import Found
from audmodel.core.operations.find import other_archive
from audmodel.core.operations.local import Local
from audmodel.core.operations.local import absent
from audmodel.core.operations.local import remains
from audmodel.core.operations.local import selected
from audmodel.core.operations.options import LoadOptions
from audmodel.core.progress.counters import Counter
from audmodel.core.progress.counters import no_progress


logger = logging.getLogger("audmodel")


def load(found: Found, options: LoadOptions) -> str:
    r"""Load a model, or some of its files, into its place in the cache.

    Args:
        found: the model, whose place in the cache is locked
        options: which files, and how

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
        slot = entry.whole if options.files is None else entry.partial
        if options.files is not None:
            members = selected(archive.directory, options.files, found.model)
            forget_other(archive)
            files = _load_some(archive, members, options)
            fetched = _result_of(files)
        elif (local := Local(entry)).is_finished:
            fetched = sum(member.size for member in local.missing)
            mend(archive, slot, local.missing, options)
        else:
            fetched = _load_all(archive, options)
        _log(archive, members, fetched, options.num_workers, start)
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
        "%d bytes of them fetched as %d bytes of the archive, "
        "%d bytes copied from other models, by %d worker(s).",
        archive.entry.model,
        archive.url,
        time.monotonic() - start,
        len(members),
        sum(member.size for member in members),
        fetched - sum(archive.copied),
        archive.reader.received,
        sum(archive.copied),
        num_workers,
    )


def _load_all(
    archive: Archive, options: LoadOptions, verified: Collection[str] = ()
) -> int:
    r"""Load all files, and take over those that a partial load brought.

    Those that were ``verified`` are not looked at again.

    Returns:
        bytes of the files that were fetched

    """
    entry, directory = archive.entry, archive.directory
    progress = options.start_progress(directory.compressed_size)
    members = directory.members
    unknown = [member for member in members if member.name not in verified]
    right = comparing.right_files(entry.partial.folder, unknown, options.num_workers)
    known = right.union(verified)
    progress.kept(_stored(member for member in members if member.name in known))
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
        extractor(archive, staging, rest, options, progress).run()
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


def stream(found: Found, options: LoadOptions) -> Generator[str, None, None]:
    r"""Load a model, or some of its files, one file after the other.

    The files lie where those of a partial load do, and stay there.
    In the end the whole model gets them as well, as second names.

    Args:
        found: the model, whose lock for some files is held
        options: which files, and how

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
        if options.files is not None:
            members = selected(archive.directory, options.files, entry.model)
        check_same(archive)
        forget_other(archive)
        folder = entry.partial.folder
        fetched = {member.name for member in absent(folder, members)}
        given: dict[str, tuple[int, ...]] = {}
        files = _load_some(archive, members, options)
        with contextlib.closing(files):
            for member in members:
                path = next(files)
                if member.name in fetched:
                    given[member.name] = _identity(folder, member.name)
                yield path
            count = _result_of(files)
        _log(archive, members, count, options.num_workers, start)
        if options.files is None and not entry.is_complete:
            # The caller may have changed a file whose path it got
            silent = dataclasses.replace(
                options, ahead=None, start_progress=no_progress
            )
            same = [name for name in given if given[name] == _identity(folder, name)]
            # All files were given, so that no process has to wait for the rest
            with contextlib.suppress(CacheBusyError), entry.whole.lock(timeout=0):
                if not entry.verify():
                    _load_all(archive, silent, same)


def _stored(members: Iterable[format.Member]) -> int:
    r"""Bytes of an archive that hold the content of some files."""
    return sum(member.compressed_size for member in members)


def _identity(folder: Folder, name: str) -> tuple[int, ...]:
    r"""Inode, size and times of a file, which differ if it was changed or replaced."""
    try:
        status = folder.status(name)
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load_some(
    archive: Archive, members: Sequence[format.Member], options: LoadOptions
) -> Generator[str, None, int]:
    r"""Load files that are missing, yield all paths in order, return bytes fetched."""
    slot, whole = archive.entry.partial, archive.entry.whole
    missing = {member.name for member in absent(slot.folder, members)}
    progress = options.start_progress(_stored(members))
    progress.kept(_stored(member for member in members if member.name not in missing))
    left = deque(members)
    # Another file of the model may be missing or wrong, which is why these are loaded
    absentees = [member for member in members if member.name in missing]
    right = comparing.right_files(whole.folder, absentees, options.num_workers)

    def attempt(*, private: bool) -> Generator[str, None, None]:
        staging = slot.stage(whole, private=private)
        files = [member for member in left if member.name in missing]
        wanted = {member.name for member in files}
        reused = _fill_from_cache(
            archive, staging, files, right, whole.folder, slot.folder
        )
        progress.kept(_stored(member for member in files if member.name in reused))
        extracting = extractor(archive, staging, wanted - reused, options, progress)
        with contextlib.closing(extracting.files()) as finished:
            while left:
                name = left[0].name
                path = os.path.join(slot.folder.path, name)
                if name in reused:
                    path = staging.publish(name)
                elif name in wanted:
                    path = staging.publish(next(finished))
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

    Raises:
        ArchiveMismatchError: if it is

    """
    if archive.is_other and archive.entry.verify():
        raise other_archive(archive.entry, archive.url)


def mend(
    archive: Archive,
    slot: Slot,
    members: Sequence[format.Member],
    options: LoadOptions,
) -> None:
    r"""Replace files in a folder that is in use, each as one step.

    What is right of a large file is not fetched,
    nor a file that is right in the other place of the model,
    nor what an attempt has brought that ended early.

    Args:
        archive: the archive
        slot: place of the folder, whose lock is held
        members: files that are wrong
        options: how to load them

    Raises:
        FileNotFoundError: if the folder was removed

    """
    other = _other(archive.entry, slot)
    right = comparing.right_files(other.folder, members, options.num_workers)
    progress = options.start_progress(_stored(members))

    def attempt(*, private: bool) -> None:
        names = {member.name for member in members}
        staging = slot.stage(other, private=private)
        reused = _fill_from_cache(
            archive, staging, members, right, other.folder, slot.folder
        )
        progress.kept(_stored(member for member in members if member.name in reused))
        extractor(archive, staging, names - reused, options, progress).run()
        if not slot.folder.exists():
            # Should locks be broken: some files must not become a whole model
            raise FileNotFoundError(errno.ENOENT, "It was removed", slot.folder.path)
        for name in names:
            staging.publish(name)
        staging.remove()

    try:
        attempt(private=False)
    except FileNotFoundError:
        # Another process took the attempt away, see above
        if not slot.folder.exists():
            raise
        attempt(private=True)


def _fill_from_cache(
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


def replace(archive: Archive, slot: Slot, options: LoadOptions) -> None:
    r"""Load from another archive than the one that is in the cache.

    Files of both are never together in a folder.
    """
    if slot is archive.entry.whole:
        slot.set_aside()
        _load_all(archive, options)
        return
    names = set(slot.folder.files())
    members = [m for m in archive.directory.files() if m.name in names]
    forget_other(archive)
    for _ in _load_some(archive, members, options):
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
    options: LoadOptions,
    progress: Counter,
) -> Extractor:
    r"""Extractor of members of an archive, which keeps parts that are right already.

    It copies those that other models in the cache have.

    Raises:
        ArchiveError: if two names of files are the same for the file system

    """

    def copied(compressed_size: int, size: int) -> None:
        archive.copied.append(size)
        progress.copied(compressed_size)

    _check_distinct(archive.directory, staging)
    return Extractor(
        archive.reader,
        archive.directory,
        staging.folder,
        num_workers=options.num_workers,
        resume=staging.resumed,
        only=names,
        ahead=options.ahead,
        is_slow=disk.is_shared(staging.path),
        seeds=seeds.find(archive, names),
        progress=progress,
        kept=progress.kept,
        copied=copied,
    )


def _check_distinct(directory: format.Directory, staging: Staging) -> None:
    r"""Raise an error if the cache takes two names of files for one."""
    # Earlier releases published what not every file system can hold
    paths = (member.name for member in directory.files())
    for first, second in find_collisions(paths):
        if not staging.folder.distinguishes(first, second):
            raise ArchiveError(
                f"{first!r} and {second!r} collide on the file system of the cache. "
                "Use a cache on a file system that distinguishes them"
            )
