r"""Files that survive a power failure, and advice for errors of the disk.

The data of a file is durable once the file is synced,
and its name once the folder is synced.

"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil


# Errors that say a file system has no locks
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# Errors that say a file system is full
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Bytes that are copied by one call, and those that go through this process
_AT_ONCE = 1 << 28
_PIECE = 1 << 20
# Errors that say a file system has no hard links
_NO_LINKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
# Types of file systems that several machines use, besides those of FUSE
_SHARED = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre"),
    *("nfs", "nfs4", "ocfs2", "orangefs", "panfs", "smb3", "smbfs", "virtiofs"),
}
_SMB = {"cifs", "smb3"}
# Errors that say a file system cannot sync a folder
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


_ADVICE = {
    "Make room and try again.": (errno.ENOSPC, errno.EDQUOT),
    "It belongs to another user, or its permissions forbid it.": (
        errno.EACCES,
        errno.EPERM,
    ),
    "The file system is mounted read-only.": (errno.EROFS,),
    "The file system, or 'ulimit -f', does not allow files of this size.": (
        errno.EFBIG,
    ),
    "Raise the limit of open files with 'ulimit -n', or use fewer workers.": (
        errno.EMFILE,
        errno.ENFILE,
    ),
    "The file system cannot do what is needed, "
    "e.g. write in the middle of a file, as some FUSE mounts without a write cache.": (
        *(errno.EINVAL, errno.ESPIPE, errno.ENOSYS),
        *(errno.ENOTSUP, errno.EOPNOTSUPP),
    ),
    "The disk, or the connection to it, has a fault: see the log of the system.": (
        *(errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO),
        *(errno.ENXIO, errno.ENODEV, errno.EHOSTDOWN),
    ),
}
_ADVICE_BY_NUMBER = {
    number: text for text, numbers in _ADVICE.items() for number in numbers
}


def advice(error: BaseException) -> str:
    r"""What to do about an error, after a space, empty if its text says that."""
    text = _ADVICE_BY_NUMBER.get(getattr(error, "errno", None) or 0)
    return f" {text}" if text else ""


@functools.cache
def boot_id() -> str:
    r"""Boot ID of the machine, another one after each boot, empty if there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip()
    except OSError:
        return ""


def sync_folder(path: str) -> None:
    r"""Make the names in a folder durable, where the file system can."""
    fd = os.open(path, os.O_RDONLY)
    try:
        sync_open_folder(fd)
    finally:
        os.close(fd)


def sync_open_folder(fd: int) -> None:
    r"""Make the names in an open folder durable, where the file system can."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_names(path: str, top: str) -> None:
    r"""Make the names of a folder and of those above it durable."""
    parent = os.path.abspath(path)
    while parent not in (os.path.abspath(top), os.sep):
        parent = os.path.dirname(parent)
        # It may belong to another user, and allow only to pass through it
        with contextlib.suppress(PermissionError):
            sync_folder(parent)


def is_shared(path: str, mounts: str = "/proc/self/mountinfo") -> bool:
    r"""Whether other machines may use the same file system.

    Args:
        path: path of a folder
        mounts: path of a file as described in :manpage:`proc(5)`

    """
    kind = file_system(path, mounts)
    return kind in _SHARED or kind.partition(".")[0] == "fuse"


def file_system(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    r"""Type of a file system, empty if it is not known."""
    kind, _ = _mount(path, mounts)
    return kind


def has_server_copies(path: str, mounts: str = "/proc/self/mountinfo") -> bool:
    r"""Whether the server of a file system copies bytes from file to file."""
    kind, options = _mount(path, mounts)
    return kind in _SMB or (kind == "nfs4" and "vers=4.2" in options)


def _mount(path: str, mounts: str) -> tuple[str, list[str]]:
    r"""Type and options of a file system, empty if they are not known."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return "", []
    for line in lines:
        mount, _, file_system = line.partition(" - ")
        if mount.split()[2:3] == [wanted]:
            kind, *rest = file_system.split(" ")
            return kind, rest[-1].split(",") if rest else []
    return "", []


def open_file(path: str, flags: int) -> int:
    r"""Open a file that others may have replaced by something that blocks.

    Used as ``opener`` of :func:`open`.
    """
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def copy(source: int, target: int) -> None:
    r"""Copy a file.

    Where the file system can, both share the same blocks (reflinks),
    or a server copies them.

    Args:
        source: descriptor of the file
        target: descriptor of an empty file

    Raises:
        OSError: if it cannot be read or written

    """
    done = 0
    copy_range = getattr(os, "copy_file_range", None)
    while copy_range is not None:
        try:
            count = copy_range(source, target, _AT_ONCE, done, done)
        except OSError as error:
            if error.errno in FULL:
                raise
            break
        if not count:
            break
        done += count
    # What is left is read and written
    os.lseek(source, done, os.SEEK_SET)
    os.lseek(target, done, os.SEEK_SET)
    with (
        open(source, "rb", closefd=False) as one,
        open(target, "wb", buffering=0, closefd=False) as other,
    ):
        shutil.copyfileobj(one, other, _PIECE)


def link(source: str, target: str) -> bool:
    r"""Give a file another name, which must not exist.

    Returns:
        whether the file system can

    Raises:
        FileExistsError: if there is something with that name
        OSError: if it fails for another reason

    """
    try:
        # Unlike a rename, a link never replaces a file
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def remove(path: str) -> None:
    r"""Remove a file that may be gone already, or that has to stay."""
    with contextlib.suppress(OSError):
        os.unlink(path)
