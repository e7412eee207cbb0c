r"""The model folder that a user wants to publish."""

from __future__ import annotations

import errno
import os
import stat

from audmodel.core.archive import encoding
from audmodel.core.archive import format
from audmodel.core.archive import names
from audmodel.core.archive.input import InputFile
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import InvalidFolderError


def scan(root: str) -> list[InputFile]:
    r"""List the files of a model folder.

    Hidden files are included,
    links to files stand for the content they link to,
    empty folders are left out.

    Returns:
        files sorted by name

    Raises:
        FileNotFoundError: if there is no folder at ``root``
        InvalidFolderError: if the folder holds no files,
            or something that cannot be published:
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
    files = sorted(_walk(root, ""), key=lambda file: file.name)
    if not files:
        raise InvalidFolderError(
            f"The model folder '{root}' holds no files, there is nothing to publish."
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
    return files


def _walk(folder: str, prefix: str) -> list[InputFile]:
    files = []
    try:
        with os.scandir(folder) as iterator:
            entries = list(iterator)
    except OSError as error:
        raise InvalidFolderError(
            f"The folder '{folder}' cannot be read: {error.strerror}."
        ) from error
    for entry in entries:
        name = prefix + entry.name
        try:
            names.check_name(name)
        except ArchiveError as error:
            raise InvalidFolderError(
                f"{entry.path!r} cannot be published: {error}. Rename it."
            ) from error
        if entry.is_dir(follow_symlinks=False):
            files += _walk(entry.path, name + "/")
        else:
            files.append(_input_file(entry, name))
    return files


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
