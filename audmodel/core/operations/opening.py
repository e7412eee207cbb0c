r"""Open a file of a model without loading the model."""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
import dataclasses
import functools
import io
import os

from audmodel.core.archive.member_file import BUFFER
from audmodel.core.archive.member_file import MemberFile
from audmodel.core.archive.names import check_name
from audmodel.core.archive.parts import MemberParts
from audmodel.core.archive.parts import find_member
from audmodel.core.archive.parts import has_parts
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import FileNotInModelError
from audmodel.core.operations import seeds
from audmodel.core.operations.archives import open_archive
from audmodel.core.operations.find import Found
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import confirm
from audmodel.core.operations.find import find
from audmodel.core.operations.local import Local
from audmodel.core.operations.options import LoadOptions
from audmodel.core.repository.lookup import open_registry
from audmodel.core.selection import listed
from audmodel.core.uid import ModelId


README = "README.md"
_MAX_README = 1 << 20


class OpenedFile(io.BufferedReader):
    r"""File of a model, opened for reading by :func:`audmodel.open`.

    It is an :class:`io.BufferedReader`
    that knows the ``size`` of the file in bytes.

    Args:
        raw: where bytes come from
        size: size of the file in bytes

    """

    __module__ = "audmodel"

    def __init__(self, raw: io.RawIOBase, size: int) -> None:
        super().__init__(raw, BUFFER)
        self.size = size


def check_path(file: str, model: ModelId) -> None:
    r"""Raise an error if no model can have a file.

    Raises:
        FileNotInModelError: if it is no path in a model

    """
    try:
        check_name(file)
    except ArchiveError as error:
        raise FileNotInModelError(
            f"The model '{model}' has no file {file[:100]!r}: {error}. "
            "Give a path in the model, with '/' between folders."
        ) from error


def open_file(wanted: Wanted, file: str, options: LoadOptions) -> OpenedFile:
    r"""Open a file of a model, wherever it is.

    Args:
        wanted: the model
        file: name of the file, with ``'/'`` between folders
        options: how many threads fetch ahead,
            and how to load a file that cannot be verified part by part

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        FileNotInModelError: if there is no such file
        RepositoryError: if the archive cannot be read

    """
    confirm(wanted)
    opened = open_cached(wanted.entry, file)
    if opened is None:
        opened = open_archived(find(wanted), file, options.num_workers)
    while opened is None:
        from audmodel.core.operations import batch

        # A name takes precedence over the pattern that it may look like
        batch.load(find(wanted), dataclasses.replace(options, files=(file,)))
        # Another process may have removed it from the cache in the meantime
        opened = open_cached(wanted.entry, file)
    return opened


def readme(wanted: Wanted, options: LoadOptions, *, needs_ranges: bool = False) -> str:
    r"""Text of the file that describes a model.

    Args:
        wanted: the model
        options: how to load the file if it cannot be verified part by part
        needs_ranges: whether to go without if the whole archive would be fetched

    Returns:
        text, empty if there is none

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        RepositoryError: if the archive cannot be read

    """
    try:
        confirm(wanted)
        opened = open_cached(wanted.entry, README)
        if opened is None:
            if needs_ranges and not _has_ranges(wanted):
                return ""
            opened = open_file(wanted, README, options)
    except FileNotInModelError:
        return ""
    with opened:
        return opened.read(_MAX_README).decode(errors="replace")


def _has_ranges(wanted: Wanted) -> bool:
    r"""Whether the storage of a model gives ranges of its archive."""
    with open_registry(find(wanted).repository) as registry:
        return registry.backend.has_ranges


def open_cached(entry: CacheEntry, file: str) -> OpenedFile | None:
    r"""Open a file that is in the cache.

    Returns:
        the file, or ``None`` if it is not there

    Raises:
        FileNotInModelError: if the model is there, and has no such file

    """
    local = Local(entry)
    slot = local.slot_of(file)
    if slot is None:
        names = local.names() or []
        if local.is_finished and file not in names:
            raise no_file(entry.model, file, names)
        return None
    try:
        raw = _open(slot.folder, file)
    except (FileNotFoundError, NotADirectoryError):
        return None  # it was removed in the meantime
    slot.touch()
    return OpenedFile(raw, os.fstat(raw.fileno()).st_size)


def _open(folder: Folder, name: str) -> io.RawIOBase:
    return io.FileIO(
        os.path.join(folder.path, name), opener=lambda *_: folder.open(name)
    )


def open_archived(found: Found, file: str, num_workers: int) -> OpenedFile | None:
    r"""Open a file in the archive of a model, unless it turns out to be in the cache.

    Args:
        found: the model
        file: name of the file, with ``'/'`` between folders
        num_workers: number of threads that fetch ahead

    Returns:
        the file, or ``None`` if it cannot be verified part by part

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        FileNotInModelError: if there is no such file
        RepositoryError: if the archive cannot be read

    """
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(open_archive(found))
        # Without the directory it was not known that the file is in the cache
        cached = open_cached(found.entry, file)
        if cached is not None:
            return cached
        item = find_member(archive.directory, file)
        if item is None:
            names = (member.name for member in archive.directory.files())
            raise no_file(found.model, file, names)
        if not has_parts(item.member):
            return None
        # Not before something is read
        find_seeds = functools.cache(functools.partial(seeds.find, archive, {file}))
        raw = MemberFile(
            MemberParts(archive.reader, item, find_seeds),
            file,
            num_workers=num_workers,
            naming=archive.naming,
            release=stack.pop_all().close,
        )
    return OpenedFile(raw, item.member.size)


def no_file(model: ModelId, file: str, names: Iterable[str]) -> FileNotInModelError:
    r"""Error that says that a model has no such file."""
    return FileNotInModelError(
        f"The model '{model}' has no file {file[:100]!r}. "
        f"It has: {listed(sorted(names))}."
    )
