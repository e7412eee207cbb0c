r"""Files and folders in a folder that is open, by its descriptor.

No other user can put the folder elsewhere meanwhile.

"""

from __future__ import annotations

import contextlib
import errno
import os
import stat


FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe or a device must not block, nor become the terminal of the process
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Attempts to make a file while other users put something in its way
ATTEMPTS = 100
# Errors that say that there is no file that this user may write to
_IN_THE_WAY = {errno.EACCES, errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.ENXIO}


def is_own(status: os.stat_result, owner: int) -> bool:
    r"""Whether a file is like those that a user makes here, with no other name.

    Args:
        status: status of the file
        owner: the user, which is that of the folder it is in,
            since network shares may give all files to another one

    """
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_mode & 0o7600 == 0o600
        and status.st_nlink == 1
        and status.st_uid == owner
    )


def open_own(fd: int, name: str, mode: int, owner: int) -> int:
    r"""Open a file for writing that a user has made, or make it."""
    flags = os.O_WRONLY | os.O_CREAT | FILE
    failure: OSError = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    for _ in range(ATTEMPTS):
        try:
            file = os.open(name, flags, mode, dir_fd=fd)
            if is_own(os.fstat(file), owner):
                return file
            os.close(file)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            failure = error
        with contextlib.suppress(FileNotFoundError):
            remove(fd, name)
    try:
        raise failure
    finally:
        # An error that refers to itself by its traceback keeps all frames
        del failure


def regular(fd: int) -> int:
    r"""The same descriptor, if it is that of a regular file."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "It is no regular file")
    return fd


def make(fd: int, name: str, *, replace: bool) -> None:
    r"""Make a folder unless there is one."""
    try:
        os.mkdir(name, dir_fd=fd)
    except FileExistsError:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if replace and not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=fd)
            os.mkdir(name, dir_fd=fd)


def remove(fd: int, name: str, *, ignore_errors: bool = False) -> None:
    r"""Remove a file, or a folder and all that is in it.

    Unlike :func:`shutil.rmtree` it never blocks on a pipe in place of a folder.
    """
    try:
        os.unlink(name, dir_fd=fd)
    except (IsADirectoryError, PermissionError) as error:
        try:
            below = os.open(name, os.O_RDONLY | FOLDER, dir_fd=fd)
        except NotADirectoryError:
            raise error from None
        try:
            for inside in os.listdir(below):
                with contextlib.suppress(*([OSError] if ignore_errors else [])):
                    remove(below, inside, ignore_errors=ignore_errors)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=fd)
