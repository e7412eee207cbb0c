r"""The archive format: bytes to records and back, no input or output.

An archive is a ZIP file [1]_ with two conventions, see ``docs/format.rst``:
a member larger than the part size is deflated in parts
that inflate on their own,
and the central directory holds an index of the parts of each member.

References:
    .. [1] PKWARE, APPNOTE.TXT - .ZIP File Format Specification, version 6.3.10

"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
import re
import stat
import struct
from typing import NamedTuple
from typing import TypeAlias

from audmodel.errors import ArchiveError


Buffer: TypeAlias = bytes | bytearray | memoryview

STORED = 0
DEFLATED = 8

KIB = 1024
PART_SIZE = 4 * KIB * KIB
MAX_PART_SIZE = 256 * KIB * KIB
MAX_DIRECTORY = 32 * KIB * KIB
MAX_MEMBERS = 250_000
DIGEST_SIZE = 32

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_DESCRIPTOR = struct.Struct("<4s3L")
_DESCRIPTOR64 = struct.Struct("<4sL2Q")
_EXTRA = struct.Struct("<2H")
_INDEX = struct.Struct("<2BHQL")
_PART = struct.Struct(f"<L{DIGEST_SIZE}s")

_LOCAL_MAGIC = b"PK\3\4"
_CENTRAL_MAGIC = b"PK\1\2"
_END_MAGIC = b"PK\5\6"
_END64_MAGIC = b"PK\6\6"
_LOCATOR64_MAGIC = b"PK\6\7"
_DESCRIPTOR_MAGIC = b"PK\7\x08"

END_SIZE = _END.size + _LOCATOR64.size + _END64.size

_ZIP64_ID = 0x0001
_UNICODE_PATH_ID = 0x7075
_INDEX_ID = 0x4D41  # 'AM'
_INDEX_VERSION = 1
_INDEX_BLAKE3 = 1

_FLAG_DESCRIPTOR = 0x0008
_FLAG_UTF8 = 0x0800
# Bits 1 and 2 tell how hard the compressor tried
_FLAGS_KNOWN = _FLAG_DESCRIPTOR | _FLAG_UTF8 | 0x0006

_MASK16 = 0xFFFF
_MASK32 = 0xFFFFFFFF
# Up to this size a member stays below 4 GiB even if it grows by deflating
_ZIP64_SIZE = 0xFF000000
# 1980-01-01 00:00, the same for all members, so that
# the archive follows from names and content of the files alone
_DATE = 0x0021
_TIME = 0x0000

_MAX_NAME = 2048
_MAX_NAME_PART = 255
_MAX_DEPTH = 255
# Parts that are empty, '.', '..', or too long,
# and characters that are control characters, backslashes,
# half of a surrogate pair, or change the direction of what follows
_FORBIDDEN = re.compile(
    rf"(?:^|/)\.{{0,2}}(?:/|$)|[^/]{{{_MAX_NAME_PART + 1}}}"
    r"|[\x00-\x1f\x7f-\x9f\\\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# The field holds 65,535 bytes for all extra records of a member
MAX_PARTS = (_MASK16 - 64 - _INDEX.size) // _PART.size


class Part(NamedTuple):
    r"""Part of a member that can be read on its own.

    Args:
        offset: position of the first byte in the data of the member
        length: bytes in the archive
        raw_offset: position of the first byte in the file
        raw_length: bytes in the file
        digest: BLAKE3 digest of the bytes in the file

    """

    offset: int
    length: int
    raw_offset: int
    raw_length: int
    digest: bytes


class Index(NamedTuple):
    r"""Parts of a member.

    Args:
        header_length: length of the local header, data starts after it
        part_size: bytes of the file in each part but the last
        parts: length in the archive and digest of each part

    """

    header_length: int
    part_size: int
    parts: tuple[tuple[int, bytes], ...]


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

    def parts(self) -> Iterable[Part]:
        r"""Parts of the member, which must have an index."""
        assert self.index is not None
        offset = raw_offset = 0
        for length, digest in self.index.parts:
            raw_length = min(self.index.part_size, self.size - raw_offset)
            yield Part(offset, length, raw_offset, raw_length, digest)
            offset += length
            raw_offset += raw_length


@dataclass(frozen=True, slots=True)
class Directory:
    r"""Directory of an archive.

    Args:
        members: files and folders in the order of their position
        offset: position of the first byte after the last member

    """

    members: tuple[Member, ...]
    offset: int

    @property
    def size(self) -> int:
        r"""Bytes of all files together."""
        return sum(member.size for member in self.members)

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


# ---------------------------------------------------------------- writing


def part_size_for(size: int, part_size: int) -> int:
    r"""Part size for a file.

    Args:
        size: size of the file in bytes
        part_size: smallest part size in bytes

    Returns:
        ``part_size``, doubled until the index fits into its field

    """
    while size > part_size * MAX_PARTS:
        part_size *= 2
    return part_size


def needs_descriptor(size: int, part_size: int) -> bool:
    r"""Whether the header of a file is written before its content is known."""
    return size > part_size


def local_header(member: Member) -> bytes:
    r"""Header in front of the data of a member.

    The sizes and the CRC-32 of a member
    with a data descriptor follow after the data.
    """
    name = member.name.encode("utf-8")
    crc, compressed_size, size = member.crc, member.compressed_size, member.size
    if member.flags & _FLAG_DESCRIPTOR:
        crc = compressed_size = size = 0
    extra = b""
    if _is_zip64(member):
        extra = _EXTRA.pack(_ZIP64_ID, 16) + struct.pack("<2Q", size, compressed_size)
        compressed_size = size = _MASK32
    return (
        _LOCAL.pack(
            _LOCAL_MAGIC,
            _version(member),
            member.flags,
            member.method,
            _TIME,
            _DATE,
            crc,
            compressed_size,
            size,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def local_header_length(name: str, size: int) -> int:
    r"""Length of the header in front of the data of a member.

    Args:
        name: name of the member
        size: size of the file in bytes

    Returns:
        length in bytes

    """
    extra = _EXTRA.size + 16 if size >= _ZIP64_SIZE else 0
    return _LOCAL.size + len(name.encode("utf-8")) + extra


def record_length(name: str, size: int, part_size: int = PART_SIZE) -> int:
    r"""Largest length of the record of a member in the directory.

    Args:
        name: name of the member
        size: size of the file in bytes
        part_size: smallest part size in bytes

    Returns:
        length in bytes

    """
    parts = -(-size // part_size_for(size, part_size))
    extra = 2 * _EXTRA.size + _INDEX.size + parts * _PART.size + 3 * 8
    return _CENTRAL.size + len(name.encode("utf-8")) + extra


def data_descriptor(member: Member) -> bytes:
    r"""Record after the data of a member whose header was written before."""
    record = _DESCRIPTOR64 if _is_zip64(member) else _DESCRIPTOR
    return record.pack(
        _DESCRIPTOR_MAGIC, member.crc, member.compressed_size, member.size
    )


def flags_for(name: str, descriptor: bool) -> int:
    r"""General purpose flags of a member."""
    flags = 0 if name.isascii() else _FLAG_UTF8
    return flags | _FLAG_DESCRIPTOR if descriptor else flags


def directory(members: Iterable[Member], offset: int) -> bytes:
    r"""Central directory and everything that follows it.

    Args:
        members: members in the order of their position
        offset: position of the directory in the archive

    Returns:
        rest of the archive

    """
    records = bytearray()
    count = 0
    for member in members:
        records += _central_record(member)
        count += 1
    end = bytearray()
    length = len(records)
    if count >= _MASK16 or length >= _MASK32 or offset >= _MASK32:
        end += _END64.pack(
            _END64_MAGIC, _END64.size - 12, 45, 45, 0, 0, count, count, length, offset
        )
        end += _LOCATOR64.pack(_LOCATOR64_MAGIC, 0, offset + length, 1)
    end += _END.pack(
        _END_MAGIC,
        0,
        0,
        min(count, _MASK16),
        min(count, _MASK16),
        min(length, _MASK32),
        min(offset, _MASK32),
        0,
    )
    return bytes(records + end)


def _central_record(member: Member) -> bytes:
    name = member.name.encode("utf-8")
    large = [
        value
        for value in (member.size, member.compressed_size, member.header_offset)
        if value >= _MASK32
    ]
    extra = b""
    if large:
        extra = _EXTRA.pack(_ZIP64_ID, 8 * len(large))
        extra += struct.pack(f"<{len(large)}Q", *large)
    if member.index is not None:
        extra += _index_record(member.index)
    mode = stat.S_IFREG | (0o755 if member.executable else 0o644)
    return (
        _CENTRAL.pack(
            _CENTRAL_MAGIC,
            45 if large else _version(member),
            3,  # made on Unix
            45 if large else _version(member),
            0,
            member.flags,
            member.method,
            _TIME,
            _DATE,
            member.crc,
            min(member.compressed_size, _MASK32),
            min(member.size, _MASK32),
            len(name),
            len(extra),
            0,
            0,
            0,
            mode << 16,
            min(member.header_offset, _MASK32),
        )
        + name
        + extra
    )


def _index_record(index: Index) -> bytes:
    body = _INDEX.pack(
        _INDEX_VERSION,
        _INDEX_BLAKE3,
        index.header_length,
        index.part_size,
        len(index.parts),
    ) + b"".join(_PART.pack(length, digest) for length, digest in index.parts)
    return _EXTRA.pack(_INDEX_ID, len(body)) + body


def _is_zip64(member: Member) -> bool:
    # Decided by the size alone, which is known before the data is written
    return member.size >= _ZIP64_SIZE


def _version(member: Member) -> int:
    return 45 if _is_zip64(member) else 20


# ---------------------------------------------------------------- reading


def find_directory(tail: bytes, size: int) -> DirectoryRange:
    r"""Find the directory of an archive.

    Args:
        tail: the last bytes of the archive,
            at least ``END_SIZE`` if there are as many
        size: size of the archive in bytes

    Returns:
        position of the directory

    Raises:
        ArchiveError: if these are not the last bytes of a complete archive

    """
    start = len(tail) - _END.size
    if start < 0 or tail[start : start + 4] != _END_MAGIC:
        raise ArchiveError(
            "it does not end like a ZIP file, it is truncated or of another kind"
        )
    _, disk, first_disk, count_here, count, length, offset, comment_length = (
        _END.unpack_from(tail, start)
    )
    if comment_length:
        raise ArchiveError("its comment is missing, it is truncated")
    if disk or first_disk or count_here != count:
        raise ArchiveError("it is split over several files")
    found = _find_directory64(tail, size)
    if found is None:
        return _directory_range(offset, length, count, size - _END.size)
    # The older record says the same, or that it has no room for it
    if (
        count not in (found.count, _MASK16)
        or length not in (found.length, _MASK32)
        or offset not in (found.offset, _MASK32)
    ):
        raise ArchiveError("its end records contradict each other")
    return found


def _find_directory64(tail: bytes, size: int) -> DirectoryRange | None:
    locator_start = len(tail) - _END.size - _LOCATOR64.size
    if locator_start < 0 or tail[locator_start : locator_start + 4] != _LOCATOR64_MAGIC:
        return None
    _, disk, end_offset, disks = _LOCATOR64.unpack_from(tail, locator_start)
    start = locator_start - _END64.size
    end = size - _END.size - _LOCATOR64.size - _END64.size
    if start < 0 or end_offset != end or tail[start : start + 4] != _END64_MAGIC:
        raise ArchiveError("its ZIP64 records contradict each other")
    fields = _END64.unpack_from(tail, start)
    record_size, here, first_disk, count_here, count, length, offset = (
        fields[1],
        *fields[4:],
    )
    if record_size != _END64.size - 12:
        raise ArchiveError("its ZIP64 records are of an unknown kind")
    if disk or here or first_disk or count_here != count or disks != 1:
        raise ArchiveError("it is split over several files")
    return _directory_range(offset, length, count, end)


def _directory_range(offset: int, length: int, count: int, end: int) -> DirectoryRange:
    if offset + length != end:
        raise ArchiveError(
            f"its directory should end at {end} bytes, but ends at {offset + length}"
        )
    if length > MAX_DIRECTORY or count > MAX_MEMBERS:
        raise ArchiveError(
            f"its directory has {count} members in {length} bytes, allowed are "
            f"{MAX_MEMBERS} members in {MAX_DIRECTORY} bytes"
        )
    return DirectoryRange(offset, length, count)


def parse_directory(data: Buffer, where: DirectoryRange) -> Directory:
    r"""Read the directory of an archive.

    Args:
        data: bytes of the directory
        where: position of the directory

    Returns:
        directory in which members do not overlap,
        and names stay inside the folder they are extracted to

    Raises:
        ArchiveError: if the directory is damaged,
            or holds something that is not supported or not allowed

    """
    members = []
    position = 0
    for _ in range(where.count):
        member, position = _parse_central_record(data, position)
        members.append(member)
    if position != len(data):
        raise ArchiveError("its directory has another length than its members")
    check_names(member.name for member in members)
    members.sort(key=lambda member: member.header_offset)
    directory = Directory(tuple(members), where.offset)
    for member, stop in zip(members, directory.stops(), strict=True):
        header_length = _LOCAL.size + len(member.name)  # at least
        if member.index is not None:
            header_length = member.index.header_length
        if member.header_offset + header_length + member.compressed_size > stop:
            raise ArchiveError(
                f"{member.name!r} overlaps what follows it in the archive"
            )
    return directory


def _parse_central_record(data: Buffer, position: int) -> tuple[Member, int]:
    if position + _CENTRAL.size > len(data):
        raise ArchiveError("its directory is truncated")
    fields = _CENTRAL.unpack_from(data, position)
    magic, flags, method, crc, compressed_size, size = (
        fields[0],
        fields[5],
        fields[6],
        *fields[9:12],
    )
    name_length, extra_length, comment_length, disk = fields[12:16]
    attributes, header_offset = fields[17:19]
    system = fields[2]
    if magic != _CENTRAL_MAGIC:
        raise ArchiveError("its directory is damaged")
    name_start = position + _CENTRAL.size
    extra_start = name_start + name_length
    comment_start = extra_start + extra_length
    stop = comment_start + comment_length
    if stop > len(data):
        raise ArchiveError("its directory is truncated")
    name = _decode_name(bytes(data[name_start:extra_start]), flags)
    extra = bytes(data[extra_start:comment_start])
    large = [
        label
        for label, value in (
            ("size", size),
            ("compressed_size", compressed_size),
            ("header_offset", header_offset),
        )
        if value == _MASK32
    ]
    sizes = {
        "size": size,
        "compressed_size": compressed_size,
        "header_offset": header_offset,
    }
    index_body = None
    for identifier, body in _extra_records(extra, name):
        if identifier == _ZIP64_ID:
            if len(body) != 8 * len(large):
                raise ArchiveError(f"the ZIP64 record of {name!r} is damaged")
            values = struct.unpack(f"<{len(large)}Q", body)
            sizes.update(zip(large, values, strict=True))
            large = []
        elif identifier == _UNICODE_PATH_ID:
            raise ArchiveError(f"{name!r} has a second name")
        elif identifier == _INDEX_ID and body[:1] == bytes([_INDEX_VERSION]):
            # An index of a later version is not needed to read the member
            index_body = body
    _check_supported(name, flags, method, disk, system, attributes)
    index = None
    if index_body is not None:
        index = _parse_index(
            index_body, name, method, sizes["size"], sizes["compressed_size"]
        )
    if method == STORED and sizes["size"] != sizes["compressed_size"]:
        raise ArchiveError(f"{name!r} is stored, but its sizes differ")
    if name.endswith("/") and sizes["size"]:
        raise ArchiveError(f"{name!r} is a folder that has content")
    member = Member(
        name,
        method,
        flags,
        crc,
        sizes["compressed_size"],
        sizes["size"],
        sizes["header_offset"],
        system == 3 and bool(attributes >> 16 & 0o100) and not name.endswith("/"),
        index,
    )
    return member, stop


def _decode_name(name: bytes, flags: int) -> str:
    if name.isascii():
        return name.decode("ascii")
    try:
        return name.decode("utf-8" if flags & _FLAG_UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise ArchiveError(f"the name {name!r} is not valid UTF-8") from error


def _extra_records(extra: bytes, name: str) -> Iterable[tuple[int, bytes]]:
    position = 0
    seen = set()
    while position < len(extra):
        if position + _EXTRA.size > len(extra):
            raise ArchiveError(f"the extra field of {name!r} is damaged")
        identifier, length = _EXTRA.unpack_from(extra, position)
        position += _EXTRA.size
        if position + length > len(extra) or identifier in seen:
            raise ArchiveError(f"the extra field of {name!r} is damaged")
        seen.add(identifier)
        yield identifier, extra[position : position + length]
        position += length


def _check_supported(
    name: str, flags: int, method: int, disk: int, system: int, attributes: int
) -> None:
    if flags & 0x0001:
        raise ArchiveError(f"{name!r} is encrypted")
    if flags & ~_FLAGS_KNOWN:
        raise ArchiveError(f"{name!r} uses unknown features (flags {flags:#06x})")
    if method not in (STORED, DEFLATED):
        raise ArchiveError(f"{name!r} uses the unknown compression method {method}")
    if disk:
        raise ArchiveError("it is split over several files")
    kind = stat.S_IFMT(attributes >> 16) if system == 3 else 0
    expected = stat.S_IFDIR if name.endswith("/") else stat.S_IFREG
    if kind not in (0, expected):
        raise ArchiveError(f"{name!r} is a link or a special file")


def _parse_index(
    body: bytes, name: str, method: int, size: int, compressed_size: int
) -> Index:
    if len(body) < _INDEX.size:
        raise ArchiveError(f"the index of {name!r} is damaged")
    _, algorithm, header_length, part_size, count = _INDEX.unpack_from(body)
    entries = len(body) - _INDEX.size
    valid = (
        algorithm == _INDEX_BLAKE3
        and header_length >= _LOCAL.size
        and 0 < part_size <= MAX_PART_SIZE
        and count == -(-size // part_size)
        and entries == count * _PART.size
    )
    if not valid:
        raise ArchiveError(f"the index of {name!r} does not add up")
    parts = tuple(_PART.iter_unpack(body[_INDEX.size :]))
    # Deflate grows by 5 bytes per 64 KiB at most, if it is done well
    limit = part_size + part_size // 1000 + KIB
    lengths = [length for length, _ in parts]
    if sum(lengths) != compressed_size or max(lengths, default=0) > limit:
        raise ArchiveError(f"the index of {name!r} does not add up")
    if method == STORED:
        raw = [min(part_size, size - n * part_size) for n in range(count)]
        if raw != lengths:
            raise ArchiveError(f"the index of {name!r} does not add up")
    return Index(header_length, part_size, parts)


def check_names(names: Iterable[str]) -> None:
    r"""Raise an error if names cannot all be extracted to the same folder.

    Args:
        names: names of members

    Raises:
        ArchiveError: if a name is not allowed or there twice,
            is both a file and a folder,
            or if there are too many folders

    """
    paths = []
    for name in names:
        check_name(name)
        path = name.removesuffix("/")
        # With this separator in front of all characters of names,
        # what is in a folder comes right after it
        paths.append((path.replace("/", "\0"), path == name))
    paths.sort()
    folders = 0
    previous: list[str] = []
    is_file = False
    for path, is_file_next in paths:
        parts = path.split("\0")
        common = 0
        for part, other in zip(parts, previous):
            if part != other:
                break
            common += 1
        if common == len(parts):
            raise ArchiveError(f"{'/'.join(parts)!r} stands in it more than once")
        if is_file and common == len(previous):
            raise ArchiveError(f"{'/'.join(previous)!r} is both a file and a folder")
        folders += len(parts) - common - is_file_next
        previous, is_file = parts, is_file_next
    if folders > MAX_MEMBERS:
        raise ArchiveError(f"it has {folders} folders, allowed are {MAX_MEMBERS}")


def check_name(name: str) -> None:
    r"""Raise an error if a name could leave the folder it is extracted to.

    Args:
        name: name of a member

    Raises:
        ArchiveError: if the name is absolute,
            has empty parts, ``'.'`` or ``'..'``,
            a backslash, control characters,
            or is longer than file systems allow

    """
    path = name.removesuffix("/")
    if _FORBIDDEN.search(path) or path.count("/") > _MAX_DEPTH:
        raise ArchiveError(f"the name {name[:300]!r} is not allowed")
    encoded = path.encode("utf-8")
    if len(encoded) > _MAX_NAME or (
        not path.isascii() and max(map(len, encoded.split(b"/"))) > _MAX_NAME_PART
    ):
        raise ArchiveError(f"the name {name[:300]!r} is too long")


def check_local_header(data: Buffer, member: Member) -> int:
    r"""Compare the header in front of the data of a member to the directory.

    Args:
        data: bytes from the local header on
        member: what the directory says

    Returns:
        length of the header

    Raises:
        ArchiveError: if they contradict each other

    """
    if len(data) < _LOCAL.size:
        raise ArchiveError(f"the header of {member.name!r} is truncated")
    fields = _LOCAL.unpack_from(data)
    magic, flags, method, crc, compressed_size, size = (
        fields[0],
        fields[2],
        fields[3],
        *fields[6:9],
    )
    name_length, extra_length = fields[9:11]
    length: int = _LOCAL.size + name_length + extra_length
    name = bytes(data[_LOCAL.size : _LOCAL.size + name_length])
    extra = bytes(data[_LOCAL.size + name_length : length])
    agrees = (
        magic == _LOCAL_MAGIC
        and len(data) >= length
        and flags == member.flags
        and method == member.method
        and _decode_name(name, flags) == member.name
        and (member.index is None or member.index.header_length == length)
    )
    if agrees and not flags & _FLAG_DESCRIPTOR:
        sizes = [size, compressed_size]
        for identifier, body in _extra_records(extra, member.name):
            if identifier == _ZIP64_ID and len(body) >= 16:
                large = struct.unpack_from("<2Q", body)
                sizes = [
                    value if value != _MASK32 else large[number]
                    for number, value in enumerate(sizes)
                ]
        agrees = crc == member.crc and sizes == [member.size, member.compressed_size]
    if not agrees:
        raise ArchiveError(f"the header of {member.name!r} contradicts the directory")
    return length


def data_range(member: Member, stop: int) -> tuple[int, int]:
    r"""Positions between which header and data of a member are.

    Args:
        member: the member
        stop: position of what follows the member

    Returns:
        position of the first byte,
        and of the byte after the last one,
        or a few more if the length of the header is not known

    """
    start = member.header_offset
    if member.index is not None:
        length = member.index.header_length
    else:
        length = _LOCAL.size + 2 * _MASK16
    return start, min(stop, start + length + member.compressed_size)
