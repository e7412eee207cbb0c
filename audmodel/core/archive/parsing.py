r"""The bytes of an archive to members, no input or output."""

from __future__ import annotations

from collections.abc import Iterable
import stat
import struct

from audmodel.core.archive import format
from audmodel.core.archive.names import check_names
from audmodel.core.errors import ArchiveError
from audmodel.core.ranges import Buffer


def find_directory(tail: Buffer, size: int) -> format.DirectoryRange:
    r"""Find the directory of an archive.

    Args:
        tail: the last bytes of the archive,
            at least ``END_SIZE`` if there are as many
        size: size of the archive in bytes

    Raises:
        ArchiveError: if these are not the last bytes of a complete archive

    """
    start = len(tail) - format.END.size
    if start < 0 or tail[start : start + 4] != format.END_MAGIC:
        raise ArchiveError(
            "it does not end like a ZIP file: it is truncated or of another kind"
        )
    _, disk, first_disk, count_here, count, length, offset, comment_length = (
        format.END.unpack_from(tail, start)
    )
    if comment_length:
        raise ArchiveError("its comment is incomplete: it is truncated")
    if disk or first_disk or count_here != count:
        raise ArchiveError("it is split over several files")
    found = _find_directory64(tail, size)
    if found is None:
        return _directory_range(offset, length, count, size - format.END.size)
    # The older record says the same, or that it has no room for it
    if (
        count not in (found.count, format.MASK16)
        or length not in (found.length, format.MASK32)
        or offset not in (found.offset, format.MASK32)
    ):
        raise ArchiveError("its end records contradict each other")
    return found


def _find_directory64(tail: Buffer, size: int) -> format.DirectoryRange | None:
    locator_start = len(tail) - format.END.size - format.LOCATOR64.size
    if (
        locator_start < 0
        or tail[locator_start : locator_start + 4] != format.LOCATOR64_MAGIC
    ):
        return None
    _, disk, end_offset, disks = format.LOCATOR64.unpack_from(tail, locator_start)
    start = locator_start - format.END64.size
    end = size - format.END.size - format.LOCATOR64.size - format.END64.size
    if start < 0 or end_offset != end or tail[start : start + 4] != format.END64_MAGIC:
        raise ArchiveError("its ZIP64 records contradict each other")
    fields = format.END64.unpack_from(tail, start)
    record_size, here, first_disk, count_here, count, length, offset = (
        fields[1],
        *fields[4:],
    )
    if record_size != format.END64.size - 12:
        raise ArchiveError("its ZIP64 records are of an unknown kind")
    if disk or here or first_disk or count_here != count or disks != 1:
        raise ArchiveError("it is split over several files")
    return _directory_range(offset, length, count, end)


def _directory_range(
    offset: int, length: int, count: int, end: int
) -> format.DirectoryRange:
    if offset + length != end:
        raise ArchiveError(
            f"its directory should end at {end} bytes, but ends at {offset + length}"
        )
    if length > format.MAX_DIRECTORY or count > format.MAX_MEMBERS:
        raise ArchiveError(
            f"its directory has {count} members in {length} bytes, allowed are "
            f"{format.MAX_MEMBERS} members in {format.MAX_DIRECTORY} bytes"
        )
    return format.DirectoryRange(offset, length, count)


def table_start(data: Buffer, where: format.DirectoryRange, size: int) -> int:
    r"""Find the table of parts in front of the directory of an archive.

    Args:
        data: the last bytes of the archive,
            at least from ``TABLE_END`` in front of the directory on
        where: position of the directory
        size: size of the archive in bytes

    Returns:
        position of the table,
        that of the directory if there is none

    """
    stop = where.offset - format.TABLE_END.size
    if stop < 0:
        return where.offset
    magic, count = format.TABLE_END.unpack_from(data, len(data) - size + stop)
    length: int = count * format.PART.size
    if magic != format.TABLE_MAGIC or length > min(stop, format.MAX_TABLE):
        return where.offset
    return stop - length


def parse_directory(
    table: Buffer, data: Buffer, where: format.DirectoryRange
) -> format.Directory:
    r"""Read the directory of an archive.

    Args:
        table: bytes of the table of parts
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
    indexed = []
    position = 0
    data = bytes(data)
    for _ in range(where.count):
        member, index, position = _parse_central_record(data, position)
        members.append(member)
        if index is not None:
            indexed.append((member, *index))
    if position != len(data):
        raise ArchiveError("its directory is longer than its records")
    offset = where.offset
    if indexed:
        _give_parts(indexed, bytes(table))
        offset -= len(table)
    check_names(member.name for member in members)
    members.sort(key=lambda member: member.header_offset)
    directory = format.Directory(tuple(members), offset)
    for member, stop in zip(members, directory.stops(), strict=True):
        header_length = format.LOCAL.size + len(member.name)  # at least
        if member.index is not None:
            header_length = member.index.header_length
        if member.header_offset + header_length + member.compressed_size > stop:
            raise ArchiveError(
                f"{member.name!r} overlaps the data that follows it in the archive"
            )
    return directory


def _parse_central_record(
    data: bytes, position: int
) -> tuple[format.Member, tuple[int, int] | None, int]:
    r"""A member, length of its local header and number of its parts, and the end."""
    name_start = position + format.CENTRAL.size
    if name_start > len(data):
        raise ArchiveError("its directory is truncated")
    # fmt: off
    (
        magic, _, system, _, _, flags, method, _, _, crc, compressed_size, size,
        name_length, extra_length, comment_length, disk, _, attributes, header_offset,
    ) = format.CENTRAL.unpack_from(data, position)
    # fmt: on
    if magic != format.CENTRAL_MAGIC:
        raise ArchiveError("its directory is damaged")
    extra_start = name_start + name_length
    comment_start = extra_start + extra_length
    stop = comment_start + comment_length
    if stop > len(data):
        raise ArchiveError("its directory is truncated")
    name = _decode_name(data[name_start:extra_start], flags)
    extra = _extra_records(data[extra_start:comment_start], name)
    if format.ZIP64_ID in extra:
        size, compressed_size, header_offset = _large(
            (size, compressed_size, header_offset), extra[format.ZIP64_ID], name
        )
    if format.UNICODE_PATH_ID in extra:
        raise ArchiveError(f"{name!r} has a second name")
    _check_supported(name, flags, method, disk, system, attributes)
    index = None
    body = extra.get(format.INDEX_ID, b"")
    # An index of a later version is not needed to read the member
    if body and body[0] == format.INDEX_VERSION:
        index = _parse_index(body, name)
    if method == format.STORED and size != compressed_size:
        raise ArchiveError(f"{name!r} is stored, but its sizes differ")
    is_folder = name.endswith("/")
    if is_folder and size:
        raise ArchiveError(f"{name!r} is a folder that has content")
    executable = system == 3 and bool(attributes >> 16 & 0o100) and not is_folder
    member = format.Member(
        name,
        method,
        flags,
        crc,
        compressed_size,
        size,
        header_offset,
        executable,
        None,
    )
    return member, index, stop


def _large(values: tuple[int, ...], body: bytes, name: str) -> Iterable[int]:
    r"""Values of which those that do not fit into 32 bits are in a ZIP64 record."""
    count = values.count(format.MASK32)
    if len(body) != 8 * count:
        raise ArchiveError(f"the ZIP64 record of {name!r} is damaged")
    large = iter(struct.unpack(f"<{count}Q", body))
    return [next(large) if value == format.MASK32 else value for value in values]


def _decode_name(name: bytes, flags: int) -> str:
    if name.isascii():
        return name.decode("ascii")
    try:
        return name.decode("utf-8" if flags & format.FLAG_UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise ArchiveError(f"the name {name!r} is not valid UTF-8") from error


def _extra_records(extra: bytes, name: str) -> dict[int, bytes]:
    r"""Bodies of the records in an extra field, by their identifier."""
    records: dict[int, bytes] = {}
    position = 0
    while position < len(extra):
        start = position + format.EXTRA.size
        if start > len(extra):
            raise ArchiveError(f"the extra field of {name!r} is damaged")
        identifier, length = format.EXTRA.unpack_from(extra, position)
        position = start + length
        if position > len(extra) or identifier in records:
            raise ArchiveError(f"the extra field of {name!r} is damaged")
        records[identifier] = extra[start:position]
    return records


def _check_supported(
    name: str, flags: int, method: int, disk: int, system: int, attributes: int
) -> None:
    if flags & 0x0001:
        raise ArchiveError(f"{name!r} is encrypted")
    if flags & ~format.FLAGS_KNOWN:
        raise ArchiveError(f"{name!r} uses unknown features (flags {flags:#06x})")
    if method not in (format.STORED, format.DEFLATED):
        raise ArchiveError(f"{name!r} uses the unknown compression method {method}")
    if disk:
        raise ArchiveError("it is split over several files")
    kind = stat.S_IFMT(attributes >> 16) if system == 3 else 0
    expected = stat.S_IFDIR if name.endswith("/") else stat.S_IFREG
    if kind not in (0, expected):
        raise ArchiveError(f"{name!r} is a link or a special file")
    # Attributes of DOS, which some programs obey: a label of a disk, a folder
    if attributes & 0x08 or (attributes & 0x10 and expected != stat.S_IFDIR):
        raise ArchiveError(f"{name!r} is a folder or a label by its DOS attributes")


def _parse_index(body: bytes, name: str) -> tuple[int, int]:
    r"""Length of the local header of a member, and number of its parts."""
    if len(body) != format.INDEX.size:
        raise ArchiveError(f"the index of {name!r} is damaged")
    _, algorithm, header_length, count = format.INDEX.unpack(body)
    if algorithm != format.INDEX_BLAKE3 or header_length < format.LOCAL.size:
        raise ArchiveError(f"the index of {name!r} does not add up")
    return header_length, count


def _give_parts(indexed: list[tuple[format.Member, int, int]], table: bytes) -> None:
    r"""Give members the parts that the table holds for them, one after the other."""
    count = sum(count for _, _, count in indexed)
    if table[count * format.PART.size :] != format.TABLE_END.pack(
        format.TABLE_MAGIC, min(count, format.MASK32)
    ):
        raise ArchiveError("its table of parts does not fit its directory")
    start = 0
    for member, header_length, count in indexed:
        stop = start + count * format.PART.size
        parts = format.Parts(table[start:stop])
        _check_parts(member, parts)
        member.index = format.Index(header_length, parts)
        start = stop


def _check_parts(member: format.Member, parts: format.Parts) -> None:
    size = sum(uncompressed_size for _, uncompressed_size, _ in parts)
    compressed_size = sum(length for length, _, _ in parts)
    if (size, compressed_size) != (member.size, member.compressed_size) or not all(
        0 < uncompressed_size <= format.MAX_PART_SIZE
        and length <= _most(uncompressed_size, member.method)
        for length, uncompressed_size, _ in parts
    ):
        raise ArchiveError(f"the index of {member.name!r} does not add up")


def _most(uncompressed_size: int, method: int) -> int:
    r"""Largest length in an archive."""
    if method == format.STORED:
        return uncompressed_size
    # Deflate grows by 5 bytes per 64 KiB at most, if it is done well
    return uncompressed_size + uncompressed_size // 1000 + format.KIB


def check_local_header(data: Buffer, member: format.Member) -> int:
    r"""Compare the local header of a member with the directory.

    Args:
        data: bytes from the local header on
        member: what the directory says

    Returns:
        length of the header

    Raises:
        ArchiveError: if they contradict each other

    """
    name_start = format.LOCAL.size
    if len(data) < name_start:
        raise ArchiveError(f"the header of {member.name!r} is truncated")
    # fmt: off
    (
        magic, _, flags, method, _, _, crc, compressed_size, size,
        name_length, extra_length,
    ) = format.LOCAL.unpack_from(data)
    # fmt: on
    extra_start = name_start + name_length
    length: int = extra_start + extra_length
    agrees = (
        magic == format.LOCAL_MAGIC
        and len(data) >= length
        and flags == member.flags
        and method == member.method
        and _decode_name(bytes(data[name_start:extra_start]), flags) == member.name
        and (member.index is None or member.index.header_length == length)
    )
    if agrees and not flags & format.FLAG_DESCRIPTOR:
        sizes = (size, compressed_size)
        extra = _extra_records(bytes(data[extra_start:length]), member.name)
        large = extra.get(format.ZIP64_ID, b"")
        if len(large) >= 16:
            sizes = tuple(
                other if value == format.MASK32 else value
                for value, other in zip(sizes, struct.unpack_from("<2Q", large))
            )
        agrees = crc == member.crc and sizes == (member.size, member.compressed_size)
    if not agrees:
        raise ArchiveError(f"the header of {member.name!r} contradicts the directory")
    return length


def data_range(member: format.Member, stop: int) -> tuple[int, int]:
    r"""Positions between which header and data of a member are.

    Args:
        member: the member
        stop: position of the next member, or of the directory

    Returns:
        position of the first byte,
        and of the byte after the last one,
        or a few more if the length of the header is not known

    """
    start = member.header_offset
    if member.index is not None:
        length = member.index.header_length
    else:
        length = format.LOCAL.size + 2 * format.MASK16
    return start, min(stop, start + length + member.compressed_size)
