"""ZIP files in which every field can be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
import struct
from typing import Any
from typing import TypeAlias
import zlib

from blake3 import blake3


STORED = 0
DEFLATED = 8
DESCRIPTOR = 0x0008
UTF8 = 0x0800

INDEX_ID = 0x4D41
ZIP64_ID = 0x0001


def deflate(data: bytes) -> bytes:
    """Stream of its own."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def extra(identifier: int, body: bytes) -> bytes:
    """Record of an extra field."""
    return struct.pack("<HH", identifier, len(body)) + body


def zip64(*values: int) -> bytes:
    """Record with large sizes and positions."""
    return extra(ZIP64_ID, struct.pack(f"<{len(values)}Q", *values))


def index(
    header_length: int,
    count: int,
    *,
    version: int = 1,
    algorithm: int = 1,
    junk: bytes = b"",
) -> bytes:
    """Record with the number of parts of a member."""
    body = struct.pack("<BBHL", version, algorithm, header_length, count)
    return extra(INDEX_ID, body + junk)


# Length in the archive, length in the file, digest
Part: TypeAlias = tuple[int, int, bytes]


def table(
    parts: Sequence[Part], *, magic: bytes = b"AMPT", count: int | None = None
) -> bytes:
    """Table of the parts of all members."""
    records = b"".join(struct.pack("<2L32s", *part) for part in parts)
    return records + magic + struct.pack("<L", len(parts) if count is None else count)


@dataclass
class Item:
    """Member of an archive, with what its headers say if it is not the truth.

    Args:
        name: name
        content: content of the file
        method: how it is compressed
        data: compressed content
        both: fields of both headers
        local: fields of the header in front of the data
        central: fields of the header in the directory
        before: bytes in front of the header
        after: bytes after the data
        at: position of the data of another member,
            if this one has none of its own
        indexed: whether it has an index

    """

    name: bytes = b"file"
    content: bytes = b"content of a file"
    method: int = STORED
    data: bytes | None = None
    both: dict[str, Any] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    before: bytes = b""
    after: bytes = b""
    at: int | None = None
    indexed: bool = False

    def compressed(self) -> bytes:
        """Data of the member."""
        if self.data is not None:
            return self.data
        return deflate(self.content) if self.method == DEFLATED else self.content

    def parts(self) -> list[Part]:
        """Its only part, if it has an index and is not empty."""
        if not (self.indexed and self.content):
            return []
        digest = blake3(self.content).digest()
        return [(len(self.compressed()), len(self.content), digest)]

    def _fields(self, more: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "version": 20,
            "flags": 0,
            "method": self.method,
            "time": 0,
            "date": 0x21,
            "crc": zlib.crc32(self.content),
            "compressed": len(self.compressed()),
            "size": len(self.content),
            "name": self.name,
            "extra": b"",
        }
        return fields | self.both | more

    def local_header(self) -> bytes:
        """Header in front of the data."""
        fields = {"magic": b"PK\3\4"} | self._fields(self.local)
        header: bytes = (
            struct.pack(
                "<4s5H3L2H",
                fields["magic"],
                *(fields[key] for key in ("version", "flags", "method")),
                *(fields[key] for key in ("time", "date", "crc")),
                fields["compressed"],
                fields["size"],
                fields.get("name_length", len(fields["name"])),
                fields.get("extra_length", len(fields["extra"])),
            )
            + fields["name"]
            + fields["extra"]
        )
        return header

    def central_header(self, offset: int) -> bytes:
        """Header in the directory."""
        defaults: dict[str, Any] = {
            "magic": b"PK\1\2",
            "system": 3,
            "comment": b"",
            "disk": 0,
            "internal": 0,
            "mode": 0o100644,
            "dos": 0,
            "offset": offset,
        }
        fields = defaults | self._fields(self.central)
        if self.indexed:
            fields["extra"] += index(len(self.local_header()), len(self.parts()))
        header: bytes = (
            struct.pack(
                "<4s4B4H3L5H2L",
                fields["magic"],
                fields["version"],
                fields["system"],
                fields["version"],
                0,
                *(fields[key] for key in ("flags", "method", "time", "date")),
                fields["crc"],
                fields["compressed"],
                fields["size"],
                fields.get("name_length", len(fields["name"])),
                fields.get("extra_length", len(fields["extra"])),
                fields.get("comment_length", len(fields["comment"])),
                fields["disk"],
                fields["internal"],
                fields["mode"] << 16 | fields["dos"],
                fields["offset"],
            )
            + fields["name"]
            + fields["extra"]
            + fields["comment"]
        )
        return header


def build(
    *items: Item,
    prefix: bytes = b"",
    shift: int = 0,
    before_directory: bytes = b"",
    after_directory: bytes = b"",
    suffix: bytes = b"",
    end: dict[str, Any] | None = None,
    end64: dict[str, Any] | None = None,
) -> bytes:
    """Archive of members.

    Args:
        items: the members
        prefix: bytes in front of the first one
        shift: added to all positions
        before_directory: bytes between the last member and the directory
        after_directory: bytes between directory and end record
        suffix: bytes after the end record
        end: fields of the end record that are not the truth
        end64: fields of the ZIP64 end record that are not the truth,
            which is only there if they are given

    Returns:
        content of the archive

    """
    data = bytearray(prefix)
    offsets = []
    for item in items:
        data += item.before
        if item.at is None:
            offsets.append(len(data) + shift)
            data += item.local_header() + item.compressed() + item.after
        else:
            offsets.append(item.at)
    if any(item.indexed for item in items):
        data += table([part for item in items for part in item.parts()])
    data += before_directory
    start = len(data)
    for item, offset in zip(items, offsets, strict=True):
        data += item.central_header(offset)
    truth: dict[str, Any] = {
        "count": len(items),
        "length": len(data) - start,
        "offset": start + shift,
        "disk": 0,
        "first_disk": 0,
        "comment": b"",
    }
    data += after_directory
    if end64 is not None:
        fields = truth | {"record_size": 44, "locator": len(data), "disks": 1} | end64
        data += struct.pack(
            "<4sQ2H2L4Q",
            fields.get("magic", b"PK\6\6"),
            fields["record_size"],
            45,
            45,
            fields["disk"],
            fields["first_disk"],
            fields.get("here", fields["count"]),
            fields["count"],
            fields["length"],
            fields["offset"],
        )
        data += struct.pack(
            "<4sLQL",
            fields.get("locator_magic", b"PK\6\7"),
            fields.get("locator_disk", 0),
            fields["locator"],
            fields["disks"],
        )
    fields = truth | (end or {})
    data += struct.pack(
        "<4s4H2LH",
        fields.get("magic", b"PK\5\6"),
        fields["disk"],
        fields["first_disk"],
        fields.get("here", fields["count"]),
        fields["count"],
        fields["length"],
        fields["offset"],
        fields.get("comment_length", len(fields["comment"])),
    )
    return bytes(data + fields["comment"] + suffix)
