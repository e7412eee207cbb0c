r"""The model folder that a user wants to publish."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
import errno
import os
import stat

from audmodel.core.archive import encoding
from audmodel.core.archive import format
from audmodel.core.archive import names
from audmodel.core.archive.input import InputFile
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import InvalidFolderError
from audmodel.core.operations.exclusion import Exclusion
from audmodel.core.operations.exclusion import exclusion


@dataclass(frozen=True)
class ModelFolder:
    r"""Folder of a model.

    Args:
        root: absolute path of the folder
        files: its files, sorted by name
        excluded: paths of files and folders in it that are left out,
            those of folders with ``'/'`` at the end

    """

    root: str
    files: Sequence[InputFile]
    excluded: Sequence[str]


def scan(root: str, exclude: Sequence[str] = ()) -> ModelFolder:
    r"""List the files of a model folder.

    Hidden files are included,
    links to files stand for the content they link to,
    empty folders are left out.
    So are the ignore file, and what its patterns exclude.

    Args:
        root: path of the folder
        exclude: patterns of files that are left out,
            in addition to those of the ignore file

    Raises:
        FileNotFoundError: if there is no folder at ``root``
        InvalidFolderError: if the folder holds no files,
            the ignore file cannot be used,
            or the folder holds something that cannot be published:
            links to folders, broken links, special files,
            files that cannot be read or are too large,
            or names that are not portable

    """
    root = os.fspath(root)
    # An unset variable in a script would publish the current folder
    root = root and os.path.abspath(os.path.expanduser(root))
    if not os.path.isdir(root):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise FileNotFoundError(
            errno.ENOENT,
            f"The model folder {what}. "
            "Give the folder that holds the files of the model",
            root,
        )
    excluded = exclusion(root, exclude)
    files = sorted(_walk(root, "", excluded), key=lambda file: file.name)
    if not files:
        left = " that are not excluded" if excluded.excluded else ""
        raise InvalidFolderError(
            f"The model folder '{root}' holds no files{left}, "
            "there is nothing to publish."
        )
    if len(files) > format.MAX_MEMBERS:
        raise InvalidFolderError(
            f"The model folder '{root}' holds {len(files)} files, allowed are "
            f"{format.MAX_MEMBERS}. Pack some of them into one file."
        )
    size = sum(file.size for file in files)
    if size > format.MAX_SIZE:
        raise InvalidFolderError(
            f"The files in '{root}' have {size} bytes together, "
            f"allowed are {format.MAX_SIZE}. Publish them as several models."
        )
    length = sum(encoding.record_length(file.name) for file in files)
    if length > format.MAX_DIRECTORY:
        raise InvalidFolderError(
            f"The directory of an archive of '{root}' would take {length} bytes, "
            f"allowed are {format.MAX_DIRECTORY}. "
            "Choose shorter names, or pack some of the files into one."
        )
    try:
        names.check_names(file.name for file in files)
    except ArchiveError as error:
        raise InvalidFolderError(
            f"The model folder '{root}' cannot be published: {error}."
        ) from error
    for first, second in names.find_collisions(file.name for file in files):
        raise InvalidFolderError(
            f"The model folder '{root}' cannot be published: {first!r} and {second!r} "
            "collide on some file systems. Rename one of them."
        )
    return ModelFolder(root, files, sorted(excluded.excluded))


def _walk(folder: str, prefix: str, excluded: Exclusion) -> Iterator[InputFile]:
    try:
        with os.scandir(folder) as iterator:
            entries = list(iterator)
    except OSError as error:
        raise InvalidFolderError(
            f"The folder '{folder}' cannot be read: {error.strerror}."
        ) from error
    for entry in entries:
        name = prefix + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if excluded.excludes(name, is_folder=is_folder):
            continue
        try:
            names.check_name(name)
        except ArchiveError as error:
            raise InvalidFolderError(
                f"{entry.path!r} cannot be published: {error}. Rename it."
            ) from error
        if is_folder:
            yield from _walk(entry.path, name + "/", excluded)
        else:
            yield _input_file(entry, name)


def _input_file(entry: os.DirEntry[str], name: str) -> InputFile:
    try:
        status = entry.stat()
    except OSError as error:
        what = "a broken link" if entry.is_symlink() else "not readable"
        raise InvalidFolderError(
            f"'{entry.path}' is {what}. Remove or replace it."
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise InvalidFolderError(
            f"'{entry.path}' is a link to a folder. Replace it by the folder itself."
        )
    if not stat.S_ISREG(status.st_mode):
        raise InvalidFolderError(
            f"'{entry.path}' is not a regular file. Remove it from the model folder."
        )
    if not os.access(entry.path, os.R_OK):
        raise InvalidFolderError(
            f"'{entry.path}' cannot be read, you lack the permission."
        )
    return InputFile.of(name, entry.path, status)
