r"""Compare a cached model with its archive, and repair it."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import dataclasses

from audmodel.core.archive import comparing
from audmodel.core.archive import format
from audmodel.core.archive.checker import Checker
from audmodel.core.archive.comparing import Difference
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.slot import Slot
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import CacheBusyError
from audmodel.core.errors import NotCachedError
from audmodel.core.operations import index
from audmodel.core.operations import loading
from audmodel.core.operations.archives import Archive
from audmodel.core.operations.archives import find_directory
from audmodel.core.operations.archives import open_archive
from audmodel.core.operations.find import Found
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import confirm
from audmodel.core.operations.find import find
from audmodel.core.operations.noting import noted
from audmodel.core.operations.options import LoadOptions
from audmodel.core.operations.results import DamagedFile
from audmodel.core.operations.results import Verification
from audmodel.core.process.requests import prefetch_requests
from audmodel.core.progress.counters import no_progress


def verify_all(
    models: Sequence[Wanted], options: LoadOptions, *, repairs: bool
) -> list[Verification]:
    r"""Compare models in the cache with the published ones.

    Args:
        models: the models
        options: how to read, and to load what is wrong
        repairs: whether to replace wrong files

    Returns:
        results, in the same order

    Raises:
        ArchiveError: if an archive is missing, damaged,
            or not the one that was published
        CacheError: if the cache cannot be written to
        InvalidDocumentError: if the header of a model is not valid
        ModelNotFoundError: if a model does not exist
        NotCachedError: if a model is not in the cache,
            in which case none is read, or was removed from it
        RepositoryError: if a repository cannot be used

    """
    for wanted in models:
        slot_of(wanted.entry)  # before a repository is asked
    for wanted in models:
        confirm(wanted)
    return [_verify(wanted, options, repairs=repairs) for wanted in models]


def _verify(wanted: Wanted, options: LoadOptions, *, repairs: bool) -> Verification:
    r"""Compare one model, and repair it if it is wrong."""
    directory = find_directory(wanted)
    result, differences = verify(wanted.entry, directory, options)
    if not differences or not repairs:
        return result
    found = find(wanted, any_archive=True)
    slot = slot_of(found.entry)
    waiting = options.start_progress.waiting
    with slot.lock(timeout=options.timeout, waiting=waiting):
        return repair(found, slot, noted(options, slot))


def verify(
    entry: CacheEntry,
    directory: format.Directory,
    options: LoadOptions,
) -> tuple[Verification, list[Difference]]:
    r"""Compare the files of a model in the cache with the directory of its archive.

    It starts again if the folder was replaced in the meantime.

    Returns:
        result, and the differences, which a repair needs

    Raises:
        NotCachedError: if the model is not in the cache, or was removed from it

    """
    while True:
        slot = slot_of(entry)
        # What is missing in another folder says nothing about this one
        with contextlib.suppress(OSError):
            folder = slot.folder.pinned()
            is_partial = slot is entry.partial
            files, extra = _listed(folder, directory, is_partial=is_partial)
            progress = options.start_progress(sum(member.size for member in files))
            found = comparing.differences(folder, files, options.num_workers, progress)
            folder.status()
            break
    damaged = [
        DamagedFile(difference.member.name, difference.problem, difference.size)
        for difference in found
    ]
    return Verification(str(entry.model), folder.path, damaged, extra), found


def _listed(
    folder: Folder, directory: format.Directory, *, is_partial: bool
) -> tuple[list[format.Member], list[str]]:
    r"""Files that should be in a folder, and names of others that are there."""
    items = list(folder.walk())
    files = directory.files()
    extra = {item.name for item in items if not item.is_folder}
    extra -= {member.name for member in files}
    if is_partial:
        # Something else may be in the place of a file
        names = {item.name for item in items}
        files = [member for member in files if member.name in names]
    return files, sorted(extra)


def slot_of(entry: CacheEntry) -> Slot:
    r"""Place of a model in the cache: of the whole, or of some of its files.

    Returns:
        folder that exists

    Raises:
        NotCachedError: if there is none

    """
    # A marker that has become needless must not let a repair replace all files
    entry.verify()
    # Damage by a power failure is treated like any other
    slot = entry.slot
    if slot is not None:
        return slot
    raise NotCachedError(
        f"The model '{entry.model}' is not in the cache '{entry.root}'."
    )


def repair(found: Found, slot: Slot, options: LoadOptions) -> Verification:
    r"""Replace wrong files, each in one step.

    Of large files only the wrong parts are fetched.
    A process that has opened the old file can still read it.

    Args:
        found: the model
        slot: the folder, whose lock is held
        options: how to load what is wrong

    Returns:
        what was wrong, with a note that it was repaired

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        CacheError: if the cache cannot be written to
        NotCachedError: if the model is not in the cache any more
        RepositoryError: if the archive cannot be read

    """
    with open_archive(found) as archive:
        # Another process may have removed or mended it in the meantime,
        # and the repository may have another archive than what was compared with
        unseen = dataclasses.replace(options, start_progress=no_progress)
        result, differences = verify(found.entry, archive.directory, unseen)
        if result.path != slot.folder.path:
            return result
        needs_check = slot is found.entry.whole and found.entry.needs_check
        if archive.is_other or needs_check:
            loading.replace(archive, slot, options)
            result = dataclasses.replace(result, extra=[])
        elif differences:
            members = [difference.member for difference in differences]
            loading.mend(archive, slot, members, options)
            if slot is found.entry.whole:
                _mend_twins(found, archive, members, options)
        if result.path == found.entry.whole.folder.path:
            loading.forget_other(archive)
        index.keep(found.entry, archive.index)
    return dataclasses.replace(result, repaired=bool(differences))


def _mend_twins(
    found: Found, archive: Archive, members: list[format.Member], options: LoadOptions
) -> None:
    r"""Replace files that were loaded alone as well, if they are wrong too."""
    partial = found.entry.partial
    twins = [m for m in members if partial.folder.size(m.name) is not None]
    with contextlib.suppress(CacheBusyError), partial.lock(timeout=0):
        wrong = comparing.differences(partial.folder, twins, options.num_workers)
        if wrong:
            loading.mend(archive, partial, [d.member for d in wrong], options)


def verify_all_remote(
    models: Sequence[Wanted], options: LoadOptions
) -> list[Verification]:
    r"""Read the archives of models, and check all of them.

    Args:
        models: the models
        options: how to read

    Returns:
        results, in the same order

    Raises:
        ArchiveError: if an archive is missing, or not the one that was published,
            or its directory is damaged
        InvalidDocumentError: if the header of a model is not valid
        ModelNotFoundError: if a model does not exist,
            in which case no archive is read
        RepositoryError: if a repository cannot be used

    """
    with contextlib.closing(
        prefetch_requests(
            lambda wanted: find(wanted, any_archive=True),
            models,
            num_workers=options.num_workers,
        )
    ) as results:
        found = list(results)
    return [verify_remote(each, options) for each in found]


def verify_remote(found: Found, options: LoadOptions) -> Verification:
    r"""Read the archive of a model, and check all of it.

    Raises:
        ArchiveError: if the archive is missing, or not the one that was published,
            or its directory is damaged
        RepositoryError: if the archive cannot be read

    """
    with open_archive(found) as archive:
        directory = archive.directory
        errors = Checker(
            archive.reader,
            directory,
            num_workers=options.num_workers,
            progress=options.start_progress(directory.compressed_size),
        ).damaged()
    damaged = [
        DamagedFile(member.name, "content", member.size, errors[member.name])
        for member in directory.files()
        if member.name in errors
    ]
    return Verification(str(found.model), archive.url, damaged, [])
