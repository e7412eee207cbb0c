r"""A file that goes into an archive, and must not change until it has."""

from __future__ import annotations

from dataclasses import dataclass
import errno
import os
import stat

from audmodel.core.errors import FileChangedError


# Errors of files that were fine when the folder was scanned
_GONE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.ELOOP,
    errno.ENXIO,
    errno.ESTALE,
}


@dataclass(frozen=True, slots=True)
class InputFile:
    r"""File that goes into an archive, as it was when its folder was scanned.

    Args:
        name: path relative to the folder, with ``'/'`` between folders
        path: path on the disk
        size: size in bytes
        identity: device, inode, size, and times of the last changes
            of content and status
        executable: whether the owner can execute the file

    """

    name: str
    path: str
    size: int
    identity: tuple[int, ...]
    executable: bool

    @classmethod
    def of(cls, name: str, path: str, status: os.stat_result) -> InputFile:
        r"""File as it is now, with a status that was just read."""
        executable = bool(status.st_mode & stat.S_IXUSR)
        return cls(name, path, status.st_size, _identity(status), executable)

    def open(self) -> int:
        r"""Open the file for reading.

        Raises:
            FileChangedError: if the file is not the one that was scanned

        """
        try:
            # Another kind of file may have replaced it: opening must not block
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            raise FileChangedError(_changed(self.path)) from error
        try:
            self.check_unchanged(os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def status(self) -> os.stat_result:
        r"""Status of the file as it is now, that of what it links to."""
        return os.stat(self.path)

    def check_unchanged(self, status: os.stat_result | None = None) -> None:
        r"""Raise an error if the file is not the one that was scanned.

        Args:
            status: status of the file, looked up if it is not given

        Raises:
            FileChangedError: if the file was changed, replaced or removed

        """
        try:
            unchanged = _identity(status or self.status()) == self.identity
        except OSError as error:
            if error.errno not in _GONE:
                raise
            unchanged = False
        if not unchanged:
            raise FileChangedError(_changed(self.path))


def _changed(path: str) -> str:
    return (
        f"'{path}' changed while it was being published. "
        "Nothing was published, try again when the folder is complete."
    )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    # Programs can set the time of the content, but not that of the status
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_dev, status.st_ino, status.st_size, *times
