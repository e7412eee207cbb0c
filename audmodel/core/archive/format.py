r"""The archive format: records, limits, and what a member is.

An archive is a ZIP file [1]_ with two conventions, see ``docs/format.rst``:
a member larger than the part size is deflated in parts
that inflate on their own,
and a table before the central directory names the parts of each member.

References:
    .. [1] PKWARE, APPNOTE.TXT - .ZIP File Format Specification, version 6.3.10

"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
import struct
from typing import NamedTuple
from typing import TypeAlias


STORED = 0
DEFLATED = 8

KIB = 1024
PART_SIZE = 4 * KIB * KIB
MAX_PART_SIZE = 256 * KIB * KIB
MAX_DIRECTORY = 32 * KIB * KIB
MAX_SIZE = KIB**4
# Enough for MAX_SIZE in MAX_MEMBERS,
# as a file has at most two parts for each quarter of the part size, and one more
MAX_TABLE = 96 * KIB * KIB
MAX_MEMBERS = 250_000
DIGEST_SIZE = 32

LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s4B4H3L5H2L")
END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR64 = struct.Struct("<4sLQL")
DESCRIPTOR = struct.Struct("<4s3L")
DESCRIPTOR64 = struct.Struct("<4sL2Q")
EXTRA = struct.Struct("<2H")
INDEX = struct.Struct("<2BHL")
TABLE_END = struct.Struct("<4sL")
PART = struct.Struct(f"<2L{DIGEST_SIZE}s")

LOCAL_MAGIC = b"PK\3\4"
CENTRAL_MAGIC = b"PK\1\2"
END_MAGIC = b"PK\5\6"
END64_MAGIC = b"PK\6\6"
TABLE_MAGIC = b"AMPT"
LOCATOR64_MAGIC = b"PK\6\7"
DESCRIPTOR_MAGIC = b"PK\7\x08"

END_SIZE = END.size + LOCATOR64.size + END64.size

ZIP64_ID = 0x0001
UNICODE_PATH_ID = 0x7075
INDEX_ID = 0x4D41  # 'AM'
INDEX_VERSION = 1
INDEX_BLAKE3 = 1

FLAG_DESCRIPTOR = 0x0008
FLAG_UTF8 = 0x0800
# Bits 1 and 2 tell how hard the compressor tried
FLAGS_KNOWN = FLAG_DESCRIPTOR | FLAG_UTF8 | 0x0006

MASK16 = 0xFFFF
MASK32 = 0xFFFFFFFF
# Up to this size a member stays below 4 GiB even if it grows by deflating
ZIP64_SIZE = 0xFF000000
# 1980-01-01 00:00, the same for all members, so that
# the archive follows from names and content of the files alone
DATE = 0x0021
TIME = 0x0000


class Part(NamedTuple):
    r"""Part of a member that can be read on its own.

    Args:
        offset: position of the first byte in the data of the member
        length: bytes in the archive
        file_offset: position of the first byte in the file
        uncompressed_size: bytes in the file
        digest: BLAKE3 digest of the bytes in the file

    """

    offset: int
    length: int
    file_offset: int
    uncompressed_size: int
    digest: bytes


# Length in the archive, length in the file, and digest of its bytes in the file
PartRecord: TypeAlias = tuple[int, int, bytes]


class Parts:
    r"""Parts of a member, which a file may have 100,000 of.

    Args:
        records: the parts as in the table of an archive,
            which takes a fifth of the memory of the values in it

    """

    __slots__ = ("records",)

    def __init__(self, records: bytes) -> None:
        self.records = records

    @classmethod
    def of(cls, parts: Iterable[PartRecord]) -> Parts:
        r"""Make them of the values of each part."""
        return cls(b"".join(PART.pack(*part) for part in parts))

    def __len__(self) -> int:
        return len(self.records) // PART.size

    def __getitem__(self, number: int) -> PartRecord:
        length, uncompressed_size, digest = PART.unpack_from(
            self.records, number * PART.size
        )
        return length, uncompressed_size, digest

    def __iter__(self) -> Iterator[PartRecord]:
        return PART.iter_unpack(self.records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parts) and self.records == other.records

    def __hash__(self) -> int:
        return hash(self.records)


class Index(NamedTuple):
    r"""Parts of a member.

    Args:
        header_length: length of the local header, data starts after it
        parts: the parts

    """

    header_length: int
    parts: Parts


@dataclass(slots=True)
class Member:
    r"""File in an archive.

    Args:
        name: path of the file, with ``'/'`` between folders
        method: ``STORED`` or ``DEFLATED``
        flags: general purpose flags
        crc: CRC-32 of the file
        compressed_size: bytes in the archive
        size: bytes of the file
        header_offset: position of the local header in the archive
        executable: whether the file can be executed
        index: index of the parts, if the archive has one

    """

    name: str
    method: int
    flags: int
    crc: int
    compressed_size: int
    size: int
    header_offset: int
    executable: bool
    index: Index | None

    @property
    def is_folder(self) -> bool:
        r"""Whether this is the entry of a folder."""
        return self.name.endswith("/")

    @property
    def is_divided(self) -> bool:
        r"""Whether it has several parts, each of which can be verified."""
        return self.index is not None and len(self.index.parts) > 1

    def parts(self) -> Iterable[Part]:
        r"""Parts of the member, which must have an index."""
        assert self.index is not None
        offset = file_offset = 0
        for length, uncompressed_size, digest in self.index.parts:
            yield Part(offset, length, file_offset, uncompressed_size, digest)
            offset += length
            file_offset += uncompressed_size


@dataclass(frozen=True, slots=True)
class Directory:
    r"""Directory of an archive.

    Args:
        members: files and folders in the order of their position
        offset: position of the table of parts, before which the last member ends

    """

    members: tuple[Member, ...]
    offset: int

    @property
    def size(self) -> int:
        r"""Bytes of all files together."""
        return sum(member.size for member in self.members)

    @property
    def compressed_size(self) -> int:
        r"""Bytes of the archive that hold the content of all files."""
        return sum(member.compressed_size for member in self.members)

    def files(self) -> list[Member]:
        r"""Members that are not folders."""
        return [member for member in self.members if not member.is_folder]

    def stops(self) -> list[int]:
        r"""Position before which each member has to end."""
        starts = [member.header_offset for member in self.members]
        return [*starts[1:], self.offset][: len(starts)]


@dataclass(frozen=True, slots=True)
class DirectoryRange:
    r"""Where the directory of an archive is.

    Args:
        offset: position of its first byte in the archive
        length: length in bytes
        count: number of members

    """

    offset: int
    length: int
    count: int
