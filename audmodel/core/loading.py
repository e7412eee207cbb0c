r"""Load a model, or some of its files, from a repository into the cache."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from collections.abc import Set
import contextlib
from contextlib import contextmanager
import os
import stat

from audmodel.core import index
from audmodel.core.archive import comparing
from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.names import find_collisions
from audmodel.core.archive.reader import Extractor
from audmodel.core.backend.base import ObjectReader
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.root import write_error
from audmodel.core.cache.staging import Staging
from audmodel.core.header import Header
from audmodel.core.registry import Registry
from audmodel.core.selection import select
from audmodel.core.uid import ModelId
from audmodel.errors import ArchiveError
from audmodel.errors import ArchiveMismatchError
from audmodel.errors import AudmodelError


Progress = Callable[[int], None]


def load(
    registry: Registry,
    header: Header,
    entry: CacheEntry,
    patterns: Sequence[str] | None = None,
    *,
    num_workers: int,
    start_progress: Callable[[int], Progress],
) -> str:
    r"""Load a model, or some of its files, into its place in the cache.

    Args:
        registry: where the model is
        header: header of the model
        entry: place in the cache, locked
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
    with open_archive(registry, header, entry) as (archive, directory):
        if patterns is None:
            _load_all(archive, directory, entry, num_workers, start_progress)
            return entry.whole.folder
        members = selected(directory, patterns, entry.model)
        for _ in _load_some(
            archive, directory, members, entry, num_workers, start_progress
        ):
            pass
        return entry.partial.folder


def _load_all(
    archive: ObjectReader,
    directory: format.Directory,
    entry: CacheEntry,
    num_workers: int,
    start_progress: Callable[[int], Progress],
    verified: Set[str] = frozenset(),
) -> None:
    r"""Load all files, and take over those that a partial load brought.

    Those that were ``verified`` are not looked at again.
    """
    progress = start_progress(directory.size)
    members = directory.members
    unknown = [member for member in members if member.name not in verified]
    right = comparing.right_files(entry.partial.folder, unknown, num_workers)
    known = right | verified
    progress(sum(member.size for member in members if member.name in known))
    missing = {member.name for member in members if member.name not in known}

    def attempt(*, private: bool) -> None:
        staging = entry.whole.stage(private=private)
        staging.prepare(sizes(directory, missing))
        rest = missing | {
            name for name in known if not staging.reuse(entry.partial.folder, name)
        }
        extractor(archive, directory, staging, rest, num_workers, progress).run()
        staging.commit((file.name, file.size, file.crc) for file in directory.files())

    try:
        attempt(private=False)
    except FileNotFoundError:
        # Somebody took the folder away,
        # which happens only if the locks of the file system are broken
        if not entry.is_complete:
            attempt(private=True)


def stream(
    registry: Registry,
    header: Header,
    entry: CacheEntry,
    patterns: Sequence[str] | None = None,
    *,
    num_workers: int,
    ahead: int,
    timeout: float,
    start_progress: Callable[[int], Progress],
) -> Generator[str, None, None]:
    r"""Load a model, or some of its files, one file after the other.

    The files lie where those of a partial load do, and stay there.
    In the end the whole model gets them as well, as second names.

    Args:
        registry: where the model is
        header: header of the model
        entry: place in the cache, whose lock for some files is held
        patterns: which files, all of them if it is ``None``
        num_workers: number of threads
        ahead: largest number of files that are begun
            before they are asked for
        timeout: seconds to wait for the lock of the model in the end
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
    with open_archive(registry, header, entry) as (archive, directory):
        members: Sequence[format.Member] = directory.files()
        if patterns is not None:
            members = selected(directory, patterns, entry.model)
        fetched = {member.name for member in absent(entry.partial.folder, members)}
        yield from _load_some(
            archive, directory, members, entry, num_workers, start_progress, ahead
        )
        if patterns is None:
            with entry.whole.lock(timeout=timeout):
                if not entry.verify():
                    _load_all(
                        archive, directory, entry, num_workers, no_progress, fetched
                    )


def _load_some(
    archive: ObjectReader,
    directory: format.Directory,
    members: Sequence[format.Member],
    entry: CacheEntry,
    num_workers: int,
    start_progress: Callable[[int], Progress],
    ahead: int | None = None,
) -> Generator[str, None, None]:
    r"""Load those of some files that are not there, give all paths in order."""
    missing = {member.name for member in absent(entry.partial.folder, members)}
    progress = start_progress(sum(member.size for member in members))
    progress(sum(member.size for member in members if member.name not in missing))
    left = deque(members)

    def attempt(*, private: bool) -> Generator[str, None, None]:
        staging = entry.partial.stage(private=private)
        wanted = missing.intersection(member.name for member in left)
        staging.prepare(sizes(directory, wanted))
        files = extractor(
            archive, directory, staging, wanted, num_workers, progress, ahead
        )
        with contextlib.closing(files.files()) as finished:
            while left:
                name = left[0].name
                path = os.path.join(entry.partial.folder, name)
                if name in wanted:
                    path = staging.reveal(next(finished))
                left.popleft()
                yield path
        staging.remove()

    try:
        yield from attempt(private=False)
    except FileNotFoundError:
        # Somebody took the folder away, see above
        yield from attempt(private=True)


def cached_path(entry: CacheEntry, patterns: Sequence[str] | None) -> str | None:
    r"""Folder of what is asked for, if all of it is in the cache.

    Args:
        entry: place in the cache
        patterns: which files, all of them if it is ``None``

    Returns:
        path of the folder,
        or ``None`` if something has to be fetched

    Raises:
        FileNotInModelError: if a pattern matches no file

    """
    if entry.verify():
        if patterns is not None:
            select(
                file_names(entry.whole.folder), patterns, f"the model '{entry.model}'"
            )
        entry.whole.touch()
        return entry.whole.folder
    directory = index.read(entry) if patterns is not None else None
    if patterns is None or directory is None:
        return None
    members = selected(directory, patterns, entry.model)
    if absent(entry.partial.folder, members):
        return None
    entry.partial.touch()
    return entry.partial.folder


def cached_files(entry: CacheEntry, patterns: Sequence[str] | None) -> list[str] | None:
    r"""Paths of what is asked for, if all of it is in the cache.

    Args:
        entry: place in the cache
        patterns: which files, all of them if it is ``None``

    Returns:
        paths, in the order of the archive if its directory is there,
        or ``None`` if something has to be fetched

    Raises:
        FileNotInModelError: if a pattern matches no file

    """
    folder = cached_path(entry, patterns)
    if folder is None:
        return None
    directory = index.read(entry)
    if directory is None:
        names = sorted(file_names(folder))
    else:
        names = [member.name for member in directory.files()]
    if patterns is not None:
        wanted = select(names, patterns, f"the model '{entry.model}'")
        names = [name for name in names if name in wanted]
    return [os.path.join(folder, name) for name in names]


def selected(
    directory: format.Directory, patterns: Sequence[str], model: ModelId
) -> list[format.Member]:
    r"""Files that match patterns, in the order of the archive.

    Args:
        directory: directory of the archive
        patterns: which files
        model: ID of the model

    Returns:
        files

    Raises:
        FileNotInModelError: if a pattern matches no file

    """
    names = [member.name for member in directory.files()]
    wanted = select(names, patterns, f"the model '{model}'")
    return [member for member in directory.files() if member.name in wanted]


def absent(folder: str, members: Sequence[format.Member]) -> list[format.Member]:
    r"""Files that are not in a folder in which only right files appear.

    Args:
        folder: the folder
        members: what should be there

    Returns:
        those of ``members`` that are not

    """

    def is_there(member: format.Member) -> bool:
        try:
            status = os.lstat(os.path.join(folder, member.name))
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == member.size

    return [member for member in members if not is_there(member)]


def file_names(folder: str) -> list[str]:
    r"""Names of all files in a folder, with ``'/'`` between folders."""
    return [
        os.path.relpath(os.path.join(root, name), folder).replace(os.sep, "/")
        for root, _, names in os.walk(folder)
        for name in names
    ]


@contextmanager
def open_archive(
    registry: Registry, header: Header, entry: CacheEntry
) -> Iterator[tuple[ObjectReader, format.Directory]]:
    r"""Open the archive of a model, and keep a copy of its directory.

    What goes wrong inside is told with the place of the archive.

    Args:
        registry: where the model is
        header: header of the model
        entry: place in the cache

    Yields:
        archive and its directory

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        CacheError: if something cannot be written
        RepositoryError: if the archive cannot be read

    """
    model = entry.model
    with registry.open_archive(model, header, entry.root) as archive:
        try:
            with naming(registry, model, header):
                if archive is None:
                    raise ArchiveError("it does not exist")
                yield archive, _directory(archive, header, entry)
        except AudmodelError:
            raise
        except OSError as error:
            raise write_error(entry.root, error) from error


@contextmanager
def naming(registry: Registry, model: ModelId, header: Header) -> Iterator[None]:
    r"""Say in an error which archive it is about.

    Args:
        registry: where the model is
        model: ID of the model
        header: header of the model

    """
    try:
        yield
    except ArchiveError as error:
        url = registry.backend.object_url(registry.archive_path(model, header.location))
        raise type(error)(
            f"The archive of model '{model}' at '{url}' cannot be used: {error}."
        ) from error


def _directory(
    archive: ObjectReader, header: Header, entry: CacheEntry
) -> format.Directory:
    r"""Directory of the archive that was published with the header."""
    try:
        return _checked_directory(archive, header, entry)
    except ArchiveError:
        # The bytes may have been damaged on their way
        archive.forget_tail()
        return _checked_directory(archive, header, entry)


def _checked_directory(
    archive: ObjectReader, header: Header, entry: CacheEntry
) -> format.Directory:
    data = end.read(archive)
    directory = end.parse(data, archive.size)
    identity = header.archive
    if identity is not None and (identity.size, identity.digest) != (
        archive.size,
        end.digest(data),
    ):
        raise ArchiveMismatchError(
            "it is not the one that was published with the header"
        )
    index.keep(entry, data, archive.size)
    return directory


def sizes(directory: format.Directory, names: set[str]) -> dict[str, int]:
    r"""Size in bytes of some files by their names."""
    return {
        member.name: member.size for member in directory.files() if member.name in names
    }


def extractor(
    archive: ObjectReader,
    directory: format.Directory,
    staging: Staging,
    names: set[str],
    num_workers: int,
    progress: Progress = lambda count: None,
    ahead: int | None = None,
) -> Extractor:
    r"""What extracts members of an archive, and keeps what is right already.

    Args:
        archive: the archive
        directory: directory of the archive
        staging: where to
        names: names of the members
        num_workers: number of threads
        progress: called with the bytes that are done
        ahead: largest number of files that are begun
            before they are asked for

    Returns:
        extractor, which has done nothing yet

    Raises:
        ArchiveError: if the file system takes two names of files for one

    """
    _check_distinct(directory, staging)
    return Extractor(
        archive,
        directory,
        staging.path,
        num_workers=num_workers,
        resume=staging.resumed,
        only=names,
        ahead=ahead,
        progress=progress,
    )


def _check_distinct(directory: format.Directory, staging: Staging) -> None:
    r"""Raise an error if the cache takes two names of files for one."""
    # Earlier releases published what not every file system can hold
    paths = (member.name for member in directory.files())
    for first, second in find_collisions(paths):
        if not staging.distinguishes(first, second):
            raise ArchiveError(
                f"{first!r} and {second!r} are one name on the file system of "
                "the cache. Use a cache on one that tells them apart"
            )


def no_progress(_: int) -> Progress:
    r"""Progress that nobody sees."""
    return lambda _: None
