r"""Members to the bytes of an archive, no input or output."""

from __future__ import annotations

from collections.abc import Iterable
import stat
import struct

from audmodel.core.archive import format


def needs_descriptor(size: int, part_size: int) -> bool:
    r"""Whether the header of a file is written before its content is known."""
    return size > part_size


def local_header(member: format.Member) -> bytes:
    r"""Header in front of the data of a member.

    The sizes and the CRC-32 of a member
    with a data descriptor follow after the data.
    """
    name = member.name.encode("utf-8")
    crc, compressed_size, size = member.crc, member.compressed_size, member.size
    if member.flags & format.FLAG_DESCRIPTOR:
        crc = compressed_size = size = 0
    extra = b""
    if _is_zip64(member):
        extra = format.EXTRA.pack(format.ZIP64_ID, 16) + struct.pack(
            "<2Q", size, compressed_size
        )
        compressed_size = size = format.MASK32
    return (
        format.LOCAL.pack(
            format.LOCAL_MAGIC,
            _version(member),
            member.flags,
            member.method,
            format.TIME,
            format.DATE,
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
    r"""Length of the header in front of the data of a member."""
    extra = format.EXTRA.size + 16 if size >= format.ZIP64_SIZE else 0
    return format.LOCAL.size + len(name.encode("utf-8")) + extra


def record_length(name: str) -> int:
    r"""Largest length of the record of a member in the directory."""
    extra = 2 * format.EXTRA.size + format.INDEX.size + 3 * 8
    return format.CENTRAL.size + len(name.encode("utf-8")) + extra


def data_descriptor(member: format.Member) -> bytes:
    r"""Record after the data of a member whose header was written before."""
    record = format.DESCRIPTOR64 if _is_zip64(member) else format.DESCRIPTOR
    return record.pack(
        format.DESCRIPTOR_MAGIC, member.crc, member.compressed_size, member.size
    )


def flags_for(name: str, descriptor: bool) -> int:
    r"""General purpose flags of a member."""
    flags = 0 if name.isascii() else format.FLAG_UTF8
    return flags | format.FLAG_DESCRIPTOR if descriptor else flags


def tail(members: Iterable[format.Member], offset: int) -> bytes:
    r"""Everything that follows the members: table of parts, directory, end records.

    Args:
        members: members in the order of their position
        offset: position of the first byte after the last member

    """
    table = bytearray()
    records = bytearray()
    count = 0
    for member in members:
        if member.index is not None:
            table += member.index.parts.records
        records += _central_record(member)
        count += 1
    table += format.TABLE_END.pack(format.TABLE_MAGIC, len(table) // format.PART.size)
    offset += len(table)
    end = bytearray()
    length = len(records)
    is_large = count >= format.MASK16 or max(length, offset) >= format.MASK32
    if is_large or _ends_like_a_locator(records):
        end += format.END64.pack(
            format.END64_MAGIC,
            format.END64.size - 12,
            45,
            45,
            0,
            0,
            count,
            count,
            length,
            offset,
        )
        end += format.LOCATOR64.pack(format.LOCATOR64_MAGIC, 0, offset + length, 1)
    end += format.END.pack(
        format.END_MAGIC,
        0,
        0,
        min(count, format.MASK16),
        min(count, format.MASK16),
        min(length, format.MASK32),
        min(offset, format.MASK32),
        0,
    )
    return bytes(table + records + end)


def _ends_like_a_locator(records: bytearray) -> bool:
    r"""Whether readers would take the end of the directory for a ZIP64 locator.

    The position of a member may look like the first bytes of one.
    """
    return records[-format.LOCATOR64.size :].startswith(format.LOCATOR64_MAGIC)


def _central_record(member: format.Member) -> bytes:
    name = member.name.encode("utf-8")
    size, compressed_size = member.size, member.compressed_size
    header_offset = member.header_offset
    version = _version(member)
    extra = b""
    if max(size, compressed_size, header_offset) >= format.MASK32:
        values = (size, compressed_size, header_offset)
        large = [value for value in values if value >= format.MASK32]
        extra = format.EXTRA.pack(format.ZIP64_ID, 8 * len(large))
        extra += struct.pack(f"<{len(large)}Q", *large)
        size, compressed_size, header_offset = (
            min(value, format.MASK32) for value in values
        )
        version = 45
    if member.index is not None:
        extra += _index_record(member.index)
    mode = stat.S_IFREG | (0o755 if member.executable else 0o644)
    return (
        format.CENTRAL.pack(
            format.CENTRAL_MAGIC,
            version,
            3,  # made on Unix
            version,
            0,
            member.flags,
            member.method,
            format.TIME,
            format.DATE,
            member.crc,
            compressed_size,
            size,
            len(name),
            len(extra),
            0,
            0,
            0,
            mode << 16,
            header_offset,
        )
        + name
        + extra
    )


def _index_record(index: format.Index) -> bytes:
    body = format.INDEX.pack(
        format.INDEX_VERSION,
        format.INDEX_BLAKE3,
        index.header_length,
        len(index.parts),
    )
    return format.EXTRA.pack(format.INDEX_ID, len(body)) + body


def _is_zip64(member: format.Member) -> bool:
    # Decided by the size alone, which is known before the data is written
    return member.size >= format.ZIP64_SIZE


def _version(member: format.Member) -> int:
    return 45 if _is_zip64(member) else 20
