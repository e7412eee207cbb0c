r"""Note that a model may not be on the disk yet, should the power fail.

To wait until a model is on the disk would double the time of a load.
Instead a small file is, before the model becomes visible,
which names the start of the machine and the checksum of the model.
As long as the machine runs, what was written is what is read.
After another start the model is compared with its checksum once.
If it is not what it was, since the power failed,
then it is taken back and continued like a load that ended early.

"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import os
import secrets

from audmodel.core import disk


# Longest content
_LIMIT = 1000
# Bytes that are read at once
_PIECE = 1 << 20
# Models that were found to be right by this process, for caches that are read only
_verified: set[tuple[str, bytes]] = set()


class Marker:
    r"""Checksum of a model that may not be on the disk.

    Args:
        path: path of the file
        folder: folder of the model

    """

    def __init__(self, path: str, folder: str) -> None:
        self._path = path
        self._folder = folder

    def doubt(self) -> bytes | None:
        r"""Content if the power may have failed since the load.

        Returns:
            content, ``None`` if the model is what was loaded

        """
        content = disk.read_small(self._path, _LIMIT)
        if (
            content is None
            or content.startswith(disk.boot_id().encode() + b":")
            or (self._folder, content) in _verified
        ):
            return None
        return content

    def is_right(self, content: bytes) -> bool:
        r"""Compare the model with its checksum.

        Args:
            content: what :meth:`doubt` gave

        Returns:
            whether the model is what was loaded,
            in which case this process has no doubt any more

        """
        try:
            actual = _checksum(_read_tree(self._folder))
        except OSError:
            return False
        if content.partition(b":")[2] != actual.encode():
            return False
        _verified.add((self._folder, content))
        return True

    def write(self, folder: str, files: Iterable[tuple[str, int, int]]) -> None:
        r"""Note what to compare a model with, before it becomes visible.

        Args:
            folder: where the model is
            files: name, size and CRC-32 of all files

        Raises:
            OSError: if it cannot be written

        """
        # Should this process be killed, it goes with what else does not belong there
        temporary = os.path.join(folder, f".unsynced~{secrets.token_hex(8)}")
        with open(temporary, "xb") as file:
            file.write(f"{disk.boot_id()}:{_checksum(files)}".encode())
        if disk.boot_id():
            disk.sync(temporary)
        else:
            # Nobody could tell later whether the power has failed
            disk.sync_tree(folder)
        os.replace(temporary, self._path)
        disk.sync_folder(os.path.dirname(self._path))

    def remove(self, content: bytes | None = None) -> None:
        r"""Remove the note, whose lock is held.

        Args:
            content: what it has to hold, anything if it is ``None``

        """
        if content in (None, disk.read_small(self._path, _LIMIT)):
            disk.remove(self._path)


def _checksum(files: Iterable[tuple[str, int, int]]) -> str:
    r"""Checksum of name, size and CRC-32 of each file, in any order."""
    from blake3 import blake3

    digest = blake3()
    for name, size, crc in sorted(files):
        digest.update(f"{crc} {size} {name}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read_tree(root: str) -> Iterator[tuple[str, int, int]]:
    r"""Name, size and CRC-32 of all files in a folder."""
    from isal import isal_zlib

    buffer = memoryview(bytearray(_PIECE))
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            fd = disk.open_file(path, os.O_RDONLY | os.O_NOFOLLOW)
            with open(fd, "rb", buffering=0) as file:
                size = crc = 0
                while count := file.readinto(buffer):
                    size += count
                    crc = isal_zlib.crc32(buffer[:count], crc)
            yield os.path.relpath(path, root).replace(os.sep, "/"), size, crc
