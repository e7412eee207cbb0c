r"""Marker of a model whose files may not be on the disk yet.

To flush a model to the disk would double the time of a load.
Instead a small file, the marker, is flushed before the model becomes visible.
It holds the boot ID of the machine, and checksum and size of each file.
Until the next boot, the operating system returns what was written.
After it, the files are compared with the marker once.
If a file is wrong, since the power failed,
the model is withdrawn, and loaded like after an interruption.

::

    boot ID, colon, BLAKE3 digest of what follows the line feed
    CRC-32, space, size, space, name, zero byte, for each file

"""

from __future__ import annotations

from collections.abc import Iterable
import secrets

from audmodel.core import disk
from audmodel.core.cache.tree import Folder


# Longest first line
_HEAD = 1000
# Longest content: that of a model with the longest directory has less
_LIMIT = 32 << 20
# Bytes that are read at once
_PIECE = 1 << 20
# Models that this process has checked, for caches that are read only
_verified: set[tuple[str, bytes]] = set()


class Marker:
    r"""Checksums of a model that may not be on the disk yet.

    Args:
        parent: folder that it is in
        name: name of the file
        folder: name of the folder of the model beside it

    """

    def __init__(self, parent: Folder, name: str, folder: str) -> None:
        self._parent = parent
        self._name = name
        self._folder = parent.folder(folder)

    def unverified_head(self) -> bytes | None:
        r"""First line if the power may have failed since the load, else ``None``."""
        head = self._head()
        if (
            head is None
            or head.startswith(disk.boot_id().encode() + b":")
            or (self._folder.path, head) in _verified
        ):
            return None
        return head

    def is_right(self, head: bytes) -> bool:
        r"""Compare the files of the model with the checksums.

        Files that were added later are ignored,
        since they are not part of the model.

        Args:
            head: result of :meth:`unverified_head`

        Returns:
            whether the model is as it was loaded,
            in which case this process does not check it again

        """
        content = self._parent.read(self._name, _LIMIT) or b""
        actual, _, files = content.partition(b"\n")
        try:
            is_right = (
                actual == head
                and head.partition(b":")[2] == _digest(files)
                and _are_right(self._folder, files)
            )
        except (OSError, ValueError):
            return False
        if is_right:
            _verified.add((self._folder.path, head))
        return is_right

    def write(self, folder: Folder, files: Iterable[tuple[str, int, int]]) -> None:
        r"""Write the marker of a model, before the model becomes visible.

        Raises:
            OSError: if it cannot be written

        """
        records = (f"{crc} {size} {name}\0" for name, size, crc in sorted(files))
        listing = "".join(records).encode(errors="surrogateescape")
        head = disk.boot_id().encode() + b":" + _digest(listing)
        if not disk.boot_id():
            # Without boot ID a later process cannot notice a reboot
            _sync_all(folder)
        # If this process is killed, it is removed with the staging folder
        temporary = f".unsynced~{secrets.token_hex(8)}"
        folder.write(temporary, head + b"\n" + listing)
        folder.rename(temporary, self._parent, self._name)
        self._parent.sync()

    def condemn(self) -> None:
        r"""Mark a model as unusable, before it is removed."""
        self._parent.replace(self._name, b"removed:")

    def remove(self, head: bytes | None = None) -> None:
        r"""Remove the marker. The lock of the model has to be held.

        Args:
            head: first line it has to have, any if it is ``None``

        """
        if head in (None, self._head()):
            self._parent.remove(self._name)

    def _head(self) -> bytes | None:
        start = self._parent.read_start(self._name, _HEAD)
        return None if start is None else start.partition(b"\n")[0]


def _sync_all(folder: Folder) -> None:
    r"""Sync a folder, and all that is in it, to the disk."""
    for item in folder.walk():
        if item.is_folder:
            folder.folder(item.name).sync()
        else:
            folder.sync(item.name)
    folder.sync()


def _digest(content: bytes) -> bytes:
    from blake3 import blake3

    return blake3(content).hexdigest().encode()


def _are_right(folder: Folder, listing: bytes) -> bool:
    r"""Whether files have the CRC-32 and the size that a list says."""
    from isal import isal_zlib

    buffer = memoryview(bytearray(_PIECE))
    for record in listing.split(b"\0")[:-1]:
        expected_crc, expected_size, name = record.split(b" ", 2)
        path = name.decode(errors="surrogateescape")
        with open(folder.open(path), "rb", buffering=0) as file:
            size = crc = 0
            while count := file.readinto(buffer):
                size += count
                crc = isal_zlib.crc32(buffer[:count], crc)
        if (crc, size) != (int(expected_crc), int(expected_size)):
            return False
    return True
