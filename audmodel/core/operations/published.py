r"""Compare the files of a folder with those of a model that was published."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import os

from audmodel.core.archive import comparing
from audmodel.core.archive import format
from audmodel.core.archive.input import InputFile
from audmodel.core.backend.errors import HiddenError
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import InvalidFolderError
from audmodel.core.errors import ModelExistsError
from audmodel.core.operations.archives import naming
from audmodel.core.operations.archives import read_directory
from audmodel.core.operations.publication import Publication
from audmodel.core.progress.counters import StartProgress
from audmodel.core.repository import layout
from audmodel.core.repository.conflicts import check_same_model
from audmodel.core.repository.header import Header
from audmodel.core.repository.registry import Registry
from audmodel.core.selection import listed


def is_published(
    registry: Registry, publication: Publication, start_progress: StartProgress
) -> bool:
    r"""Whether a repository has a model with the same files.

    Of the model only header and directory are fetched,
    and each file of the folder is read at most once.
    How the archive was compressed does not matter.

    Args:
        registry: where the model may be
        publication: what is to be published
        start_progress: called with the number of bytes of the files,
            gives a function that is called with the bytes that were compared

    Returns:
        whether it has, ``False`` if it does not have the model at all

    Raises:
        ArchiveError: if the archive of the model is missing, damaged,
            or not the one that was published
        FileChangedError: if a file of the folder changes in the meantime
        InvalidDocumentError: if the header of the model is not valid
        InvalidFolderError: if a file of the folder cannot be read
        ModelExistsError: if it has the model with other files,
            or another model of the same short ID
        RepositoryError: if the repository cannot be read

    """
    model = publication.model
    try:
        found = registry.header(model)
    except HiddenError:
        return False  # as it will be if the model is published
    if found is None:
        return False
    header = found[0]
    check_same_model(model, publication.header, header, registry.repository)
    members = _members(registry, publication, header)
    differences = list(_differences(publication, members, start_progress))
    if differences:
        raise ModelExistsError(
            f"A model with ID '{model}' exists already in {registry.repository}, "
            f"and the folder differs from it: {'; '.join(differences)}. "
            "Publish under another version, or change the parameters."
        )
    return True


def _members(
    registry: Registry, publication: Publication, header: Header
) -> list[format.Member]:
    r"""Files in the archive of the published model."""
    model, backend = publication.model, registry.backend
    path = layout.archive_path(model, header.location)
    tmp_root = publication.tmp_root
    with (
        naming(model, backend.object_url(path)),
        backend.open_object(path, tmp_root=tmp_root) as reader,
    ):
        if reader is None:
            raise ArchiveError(
                "it does not exist. Store it again with 'repair' from this folder"
            )
        directory, _ = read_directory(reader, header)
    return directory.files()


def _differences(
    publication: Publication,
    members: Sequence[format.Member],
    start_progress: StartProgress,
) -> Iterator[str]:
    r"""What differs, in words, by kind of difference."""
    files = {file.name: file for file in publication.files}
    published = {member.name: member for member in members}
    added = sorted(files.keys() - published.keys())
    missing = sorted(published.keys() - files.keys())
    common = [member for member in members if member.name in files]
    progress = start_progress(publication.size)
    progress(sum(files[name].size for name in added))
    found = comparing.differences(
        _Folder(files), common, publication.num_workers, progress
    )
    for file in publication.files:
        file.check_unchanged()
    for difference in found:
        if difference.problem == "unreadable":
            path = files[difference.member.name].path
            raise InvalidFolderError(f"'{path}' cannot be read.")
    changed = [found.member.name for found in found if found.problem != "mode"]
    modes = [
        member.name
        for member in common
        if member.executable != files[member.name].executable
    ]
    for names, what in (
        (added, "added"),
        (missing, "missing"),
        (changed, "changed"),
        (modes, "permission to execute changed"),
    ):
        if names:
            yield f"{what}: {listed(names)}"


class _Folder:
    r"""Files of a folder, as they were when it was scanned."""

    def __init__(self, files: Mapping[str, InputFile]) -> None:
        self._files = files

    def open(self, name: str) -> int:
        r"""Open a file for reading, give its descriptor."""
        return self._files[name].open()

    def status(self, name: str) -> os.stat_result:
        r"""Status of a file, that of what it links to if it is a link."""
        return self._files[name].status()
