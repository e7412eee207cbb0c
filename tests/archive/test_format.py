"""The bytes of an archive are those that the documentation describes."""

from __future__ import annotations

import os
from pathlib import Path
import struct
from typing import Any
import zipfile
import zlib

from blake3 import blake3
import pytest
import yaml

import audmodel
from audmodel.core.archive import encoding
from audmodel.core.archive import format
from audmodel.core.archive import parsing
from audmodel.errors import ArchiveError
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import publish
from tests.archive.tools import read_folder
from tests.archive.tools import repository_files
from tests.archive.tools import text
from tests.archive.tools import write
from tests.archive.tools import write_old


def read_as_documented(data: bytes) -> dict[str, dict[str, Any]]:
    """Reader written from the format page, with nothing of ours in it."""
    *_, count, length, offset, comment = struct.unpack("<4s4H2LH", data[-22:])
    assert comment == 0
    assert offset + length + 22 == len(data)
    magic, records = struct.unpack_from("<4sL", data, offset - 8)
    assert magic == b"AMPT"
    table = offset - 8 - 40 * records
    next_part = table
    members = {}
    position = offset
    end_of_last = 0
    for _ in range(count):
        fields = struct.unpack_from("<4s6H3L5H2L", data, position)
        magic, made, needed, flags, method, time, date = fields[:7]
        crc, compressed, size, name_length, extra_length, comment = fields[7:13]
        disk, internal, external, start = fields[13:]
        assert magic == b"PK\1\2"
        assert (made, needed) == (3 << 8 | 20, 20)
        assert (time, date) == (0, 0x0021)
        assert (comment, disk, internal) == (0, 0, 0)
        assert external in (0o100644 << 16, 0o100755 << 16)
        raw = data[position + 46 : position + 46 + name_length]
        name = raw.decode("utf-8")
        assert bool(flags & 0x0800) == (not raw.isascii())
        assert not flags & ~0x0808
        extra = data[position + 46 + name_length :][:extra_length]
        position += 46 + name_length + extra_length
        identifier, extra_size = struct.unpack_from("<HH", extra)
        assert (identifier, extra_size) == (0x4D41, len(extra) - 4)
        version, digest, header, parts = struct.unpack_from("<BBHL", extra, 4)
        assert (version, digest) == (1, 1)
        assert extra_size == 8
        # Local header
        assert start == end_of_last
        local = struct.unpack_from("<4s5H3L2H", data, start)
        assert local[:6] == (b"PK\3\4", 20, flags, method, 0, 0x0021)
        large = parts > 1
        assert bool(flags & 8) == large
        expected = (0, 0, 0) if large else (crc, compressed, size)
        assert local[6:] == (*expected, len(raw), 0)
        assert data[start + 30 : start + header] == raw
        # Data
        at = start + header
        content = b""
        for number in range(parts):
            part_length, uncompressed_size, part_digest = struct.unpack_from(
                "<2L32s", data, next_part
            )
            next_part += 40
            piece = data[at : at + part_length]
            if method == 8:
                inflater = zlib.decompressobj(-15)
                piece = inflater.decompress(piece)
                assert inflater.eof == (number == parts - 1)
                assert not inflater.unused_data
            assert len(piece) == uncompressed_size
            assert blake3(piece).digest() == part_digest
            content += piece
            at += part_length
        stream = data[start + header : at]
        assert len(stream) == compressed
        if method == 8:
            assert zlib.decompress(stream, -15) == content
        assert zlib.crc32(content) == crc
        if large:
            descriptor = struct.pack("<4s3L", b"PK\7\x08", crc, compressed, size)
            assert data[at : at + 16] == descriptor
            at += 16
        end_of_last = at
        members[name] = {
            "content": content,
            "executable": external >> 16 & 1,
            "parts": parts,
            "method": method,
        }
    assert end_of_last == table
    assert next_part == offset - 8
    assert position == offset + length
    assert list(members) == sorted(members)
    return members


FILES = {
    "a/large": text(100_000),
    "a/noise": noise(50_000),
    "b": b"b",
    "empty": b"",
    "ä/ö": text(5_000),
    "whole part": text(10_000),
    "a byte more": noise(10_001),
}


@pytest.mark.parametrize("compression", [0, 1, 6])
def test_archive_is_as_documented(compression: int, tmp_path: Path) -> None:
    root = make_folder(tmp_path, FILES)
    (root / "b").chmod(0o755)
    data = write(root, part_size=10_000, compression=compression)
    members = read_as_documented(data)
    assert {name: member["content"] for name, member in members.items()} == FILES
    assert [name for name in members if members[name]["executable"]] == ["b"]
    parts = {name: member["parts"] for name, member in members.items()}
    assert parts == {
        "a/large": 10,
        "a/noise": 5,
        "b": 1,
        "empty": 0,
        "ä/ö": 1,
        "whole part": 1,
        "a byte more": 2,
    }
    methods = {name for name, member in members.items() if member["method"] == 8}
    assert methods == ({"a/large", "whole part", "ä/ö"} if compression else set())


def test_header_names_the_archive(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", FILES))
    files = repository_files(repository)
    [header] = [path for path in files.values() if path.match("*.header.yaml")]
    data = files[".zip"].read_bytes()
    offset = struct.unpack("<L", data[-6:-2])[0]
    table = offset - 8 - 40 * struct.unpack_from("<L", data, offset - 4)[0]
    assert yaml.safe_load(header.read_text())["archive"] == {
        "digest": f"blake3:{blake3(data[table:]).hexdigest()}",
        "size": len(data),
    }
    assert "archive" not in audmodel.header(uid)


def test_largest_model_fits_into_the_table() -> None:
    # Two parts of tensors that are just large enough to begin one
    assert (format.MAX_TABLE // format.PART.size) >= format.MAX_SIZE // (
        format.PART_SIZE // 4
    ) * 2 + format.MAX_MEMBERS


def test_directory_that_ends_like_a_zip64_locator(tmp_path: Path) -> None:
    """Readers look for the locator at a fixed distance from the end."""
    (start,) = struct.unpack("<L", format.LOCATOR64_MAGIC)
    member = format.Member(
        name="abcd",
        method=format.STORED,
        flags=0,
        crc=zlib.crc32(b"x"),
        compressed_size=1,
        size=1,
        header_offset=start,
        executable=False,
        index=format.Index(34, format.Parts.of([(1, 1, blake3(b"x").digest())])),
    )
    offset = start + 35
    tail = encoding.tail([member], offset)
    size = offset + len(tail)
    where = parsing.find_directory(tail, size)
    assert where.count == 1
    path = tmp_path / "archive.zip"
    with path.open("wb") as file:
        file.seek(offset)
        file.write(tail)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["abcd"]


def test_archive_without_index_is_read_all_the_same(tmp_path: Path) -> None:
    data = write(make_folder(tmp_path / "model", FILES), part_size=10_000)
    directory = parse(data)
    for member in directory.members:
        member.index = None
    without = data[: directory.offset]
    without += encoding.tail(directory.members, directory.offset)
    assert len(without) < len(data)
    extract(MemorySource(without), tmp_path / "out", num_workers=2)
    assert read_folder(tmp_path / "out") == FILES


def test_header_that_is_cut_is_refused() -> None:
    data = write_old({"a": b"a"})
    [member] = parse(data).members
    assert parsing.check_local_header(data, member) == 31
    for length in (0, 10, 29, 30):
        with pytest.raises(ArchiveError, match="'a'"):
            parsing.check_local_header(data[:length], member)


def test_documented_numbers_are_right() -> None:
    page = Path(__file__).parents[2] / "docs" / "format.rst"
    content = page.read_text(encoding="utf-8")
    for limit in (
        f"{format.MAX_MEMBERS:,}",
        f"{format.MAX_DIRECTORY >> 20} MiB",
        f"{format.MAX_PART_SIZE >> 20} MiB",
        f"{format.PART_SIZE >> 20} MiB",
        f"{format.MAX_TABLE >> 20} MiB",
        f"{format.MAX_SIZE >> 40} TiB",
    ):
        assert limit in content
    assert os.fsencode("AM") == struct.pack("<H", 0x4D41)
