"""Archives that nobody made in good faith, by name.

Each is refused, or extracts to the files given here,
which is all that its directory honestly says.
"""

from __future__ import annotations

from collections.abc import Iterator
import struct
from typing import Any
import zlib

from blake3 import blake3

from tests.archive.tools import noise
from tests.archive.zips import DEFLATED
from tests.archive.zips import DESCRIPTOR
from tests.archive.zips import INDEX_ID
from tests.archive.zips import STORED
from tests.archive.zips import UTF8
from tests.archive.zips import Item
from tests.archive.zips import Part
from tests.archive.zips import build
from tests.archive.zips import deflate
from tests.archive.zips import extra
from tests.archive.zips import index
from tests.archive.zips import table
from tests.archive.zips import zip64


REFUSED = None
Case = tuple[str, bytes, dict[str, bytes] | None]

CONTENT = b"content of a file"
SPARE = noise(3000, seed=3)
HONEST = build(Item(), Item(b"sub/other", SPARE, DEFLATED))


def cases() -> Iterator[Case]:
    """Name, archive, and files that come out, ``None`` if it is refused."""
    yield from _files()
    yield from _end_records()
    yield from _zip64()
    yield from _directories()
    yield from _headers()
    yield from _overlaps()
    yield from _indices()
    yield from _contents()
    yield from _names()
    yield from _kinds()


def _files() -> Iterator[Case]:
    """Files that are no archives, or not only."""
    yield "empty file", b"", REFUSED
    yield "one byte", b"P", REFUSED
    yield "only the magic of an end record", b"PK\5\6", REFUSED
    yield "only zeros", bytes(100_000), REFUSED
    yield "only noise", noise(100_000), REFUSED
    yield "gzip", b"\x1f\x8b\x08" + bytes(500), REFUSED
    yield "7z", b"7z\xbc\xaf\x27\x1c" + bytes(500), REFUSED
    yield "rar", b"Rar!\x1a\x07\x01\x00" + bytes(500), REFUSED
    yield "html", b"<!DOCTYPE html><html><body>Not found</body></html>", REFUSED
    for share in (1, 2, 10, 50, 90, 99):
        cut = len(HONEST) * share // 100
        yield f"first {share} %", HONEST[:cut], REFUSED
    for count in (1, 2, 21, 22, 23, 60):
        yield f"last {count} bytes missing", HONEST[:-count], REFUSED
    for count in (1, 30, 100):
        yield f"first {count} bytes missing", HONEST[count:], REFUSED
    yield "hole in the middle", HONEST[:40] + HONEST[60:], REFUSED
    yield "prefix", b"MZ" + bytes(98) + HONEST, REFUSED
    yield "trailing zero", HONEST + b"\0", REFUSED
    yield "trailing newline", HONEST + b"\n", REFUSED
    yield "trailing zeros", HONEST + bytes(4096), REFUSED
    yield "twice", HONEST + HONEST, REFUSED
    other = build(Item(b"evil", b"evil"))
    yield "another archive behind", HONEST + other, REFUSED
    yield "another archive in front", other + HONEST, REFUSED
    shifted = build(Item(), prefix=b"#!/bin/sh\n", shift=0)
    yield "script in front, positions right", shifted, {"file": CONTENT}


def _end_records() -> Iterator[Case]:
    item = Item()
    other = build(Item(b"evil", b"evil"))
    end = build()
    yield "comment", build(item, end={"comment": b"hello"}), REFUSED
    yield "archive in comment", build(item, end={"comment": other}), REFUSED
    yield "empty archive in comment", build(item, end={"comment": end}), REFUSED
    short = {"comment_length": 5}
    yield "comment missing", build(item, end=short), REFUSED
    yield "largest comment missing", build(item, end={"comment_length": 65535}), REFUSED
    yield "two end records", build(item) + end, REFUSED
    yield (
        "end record before directory",
        build(item, before_directory=end),
        {"file": CONTENT},
    )
    yield "end record behind directory", build(item, after_directory=end), REFUSED
    yield "end record as content", build(Item(content=end)), {"file": end}
    table: dict[str, dict[str, Any]] = {
        "end magic": {"magic": b"PK\5\7"},
        "disk": {"disk": 1},
        "first disk": {"first_disk": 1},
        "last disk": {"disk": 65535, "first_disk": 65535},
        "count on this disk": {"here": 2},
        "count too small": {"count": 0},
        "count too large": {"count": 2},
        "count largest": {"count": 65534},
        "count of ZIP64": {"count": 65535},
        "directory too short": {"length": 1},
        "directory empty": {"length": 0},
        "directory too long": {"length": 200},
        "directory of 4 GiB": {"length": 0xFFFFFFFE},
        "directory of ZIP64": {"length": 0xFFFFFFFF},
        "position too small": {"offset": 0},
        "position too large": {"offset": 10_000},
        "position of 4 GiB": {"offset": 0xFFFFFFFE},
        "position of ZIP64": {"offset": 0xFFFFFFFF},
    }
    for name, fields in table.items():
        yield f"end record: {name}", build(item, end=fields), REFUSED
    yield (
        "gap in front of directory",
        build(item, before_directory=SPARE),
        {"file": CONTENT},
    )
    yield "gap behind directory", build(item, after_directory=b"\0"), REFUSED


def _zip64() -> Iterator[Case]:
    item = Item()
    large = {"count": 0xFFFF, "here": 0xFFFF, "length": 2**32 - 1, "offset": 2**32 - 1}
    yield "ZIP64 though not needed", build(item, end64={}), {"file": CONTENT}
    yield "ZIP64 with all fields", build(item, end64={}, end=large), {"file": CONTENT}
    table: dict[str, dict[str, Any]] = {
        "magic": {"magic": b"PK\6\5"},
        "locator magic": {"locator_magic": b"PK\6\5"},
        "locator disk": {"locator_disk": 1},
        "disks": {"disks": 2},
        "no disks": {"disks": 0},
        "disk": {"disk": 1},
        "first disk": {"first_disk": 1},
        "count here": {"here": 2},
        "locator too small": {"locator": 0},
        "locator too large": {"locator": 2**63},
        "record size": {"record_size": 45},
        "huge record size": {"record_size": 2**64 - 1},
        "count": {"count": 2},
        "huge count": {"count": 2**64 - 1},
        "length": {"length": 1},
        "huge length": {"length": 2**64 - 1},
        "offset": {"offset": 0},
        "huge offset": {"offset": 2**64 - 1},
        "sum that wraps": {"offset": 2**64 - 100, "length": 147},
    }
    for name, fields in table.items():
        yield f"ZIP64 end: {name}", build(item, end64=fields, end=large), REFUSED
    # Two directories: one for readers that know ZIP64, one for the others
    for name, hidden in {"offset": {"offset": 7}, "count": {"count": 3}}.items():
        archive = build(item, end64={}, end=hidden)
        yield f"ZIP64 and end record disagree: {name}", archive, REFUSED
    inner = build(item, end64={})
    comment = inner[-98:-22]
    swallowed = build(Item(central={"comment": comment}))
    yield "ZIP64 records in the comment of a member", swallowed, REFUSED
    for name, values in {
        "none of them": b"",
        "too few": zip64(5),
        "too many": zip64(5, 5, 5, 5),
        "cut": extra(1, bytes(9)),
        "twice": zip64(17, 17) + zip64(17, 17),
        "not needed": zip64(17, 17),
    }.items():
        needed = {} if name == "not needed" else {"size": 2**32 - 1}
        fields = {"extra": values, "compressed": 2**32 - 1} | needed
        if name == "not needed":
            fields = {"extra": values}
        yield f"ZIP64 member: {name}", build(Item(central=fields)), REFUSED
    fields = {"extra": zip64(17, 17), "compressed": 2**32 - 1, "size": 2**32 - 1}
    yield "ZIP64 member: right", build(Item(central=fields)), {"file": CONTENT}
    for name, values in {
        "huge": zip64(2**64 - 1, 2**64 - 1),
        "huge size": zip64(2**63, 17),
        "huge data": zip64(17, 2**63),
    }.items():
        fields = {"extra": values, "compressed": 2**32 - 1, "size": 2**32 - 1}
        yield f"ZIP64 member: {name}", build(Item(central=fields)), REFUSED
    fields = {"extra": zip64(2**64 - 1), "offset": 2**32 - 1}
    yield "ZIP64 member: huge position", build(Item(central=fields)), REFUSED
    local = {"extra": zip64(9, 9), "compressed": 2**32 - 1, "size": 2**32 - 1}
    yield "ZIP64 header: other sizes", build(Item(local=local)), REFUSED
    local = {"extra": zip64(17), "compressed": 2**32 - 1, "size": 2**32 - 1}
    yield "ZIP64 header: cut", build(Item(local=local)), REFUSED


def _directories() -> Iterator[Case]:
    table: dict[str, dict[str, Any]] = {
        "magic": {"magic": b"PK\1\3"},
        "magic of a header": {"magic": b"PK\3\4"},
        "name too long": {"name_length": 60_000},
        "name too short": {"name_length": 2},
        "extra too long": {"extra_length": 60_000},
        "extra that is not there": {"extra_length": 1},
        "comment too long": {"comment_length": 60_000},
        "disk": {"disk": 1},
        "name empty": {"name": b""},
        "extra of 3 bytes": {"extra": b"\1\0\0"},
        "extra cut": {"extra": struct.pack("<HH", 0x5455, 9) + b"123"},
        "extra twice": {"extra": extra(0x5455, b"a") + extra(0x5455, b"b")},
    }
    for name, fields in table.items():
        yield f"directory: {name}", build(Item(central=fields)), REFUSED
    yield (
        "directory: comment of a member",
        build(Item(central={"comment": b"hi"})),
        {"file": CONTENT},
    )
    yield (
        "directory: unknown extra",
        build(Item(central={"extra": extra(9, b"x")})),
        {"file": CONTENT},
    )
    checksum = zlib.crc32(b"file")
    other = extra(0x7075, struct.pack("<BL", 1, checksum) + b"../evil")
    yield "second name in directory", build(Item(central={"extra": other})), REFUSED
    yield (
        "second name in header",
        build(Item(local={"extra": other})),
        {"file": CONTENT},
    )
    yield "second name in both", build(Item(both={"extra": other})), REFUSED


def _headers() -> Iterator[Case]:
    """Directory and header in front of the data disagree."""
    table: dict[str, dict[str, Any]] = {
        "magic": {"magic": b"PK\3\3"},
        "method": {"method": DEFLATED},
        "other name": {"name": b"evil"},
        "longer name": {"name": b"file2"},
        "name cut": {"name_length": 3},
        "name too long": {"name_length": 65535},
        "extra too long": {"extra_length": 65535},
        "extra too short": {"extra": extra(9, b"12345"), "extra_length": 3},
        "CRC-32": {"crc": 1},
        "size": {"size": 16},
        "compressed size": {"compressed": 16},
        "no sizes": {"size": 0, "compressed": 0, "crc": 0},
        "encrypted": {"flags": 1},
        "descriptor": {"flags": DESCRIPTOR},
        "UTF-8": {"flags": UTF8},
        "ZIP64 without record": {"size": 2**32 - 1, "compressed": 2**32 - 1},
        "damaged extra": {"extra": b"\1\0\xff\xff"},
    }
    for name, fields in table.items():
        yield f"header: {name}", build(Item(local=fields)), REFUSED
        if "size" in name or name in ("method", "CRC-32", "magic", "other name"):
            archive = build(Item(local=fields, indexed=True))
            yield f"header, indexed: {name}", archive, REFUSED
    yield (
        "header: version and time",
        build(Item(local={"version": 63, "time": 1, "date": 1})),
        {"file": CONTENT},
    )
    not_utf8 = {"name": b"\xff\xfe", "flags": UTF8}
    yield (
        "header: name that is not UTF-8",
        build(Item(central={"name": b"ab", "flags": UTF8}, local=not_utf8)),
        REFUSED,
    )
    lying = struct.pack("<4s3L", b"PK\7\x08", 1, 2, 3)
    both = {"flags": DESCRIPTOR}
    zero = {"crc": 0, "size": 0, "compressed": 0}
    yield (
        "descriptor that lies",
        build(Item(both=both, local=zero, after=lying)),
        {"file": CONTENT},
    )
    yield "descriptor missing", build(Item(both=both, local=zero)), {"file": CONTENT}
    yield "descriptor with known sizes", build(Item(both=both)), {"file": CONTENT}


def _overlaps() -> Iterator[Case]:
    honest = Item(b"a", SPARE)
    yield "two members, one header", build(honest, Item(b"a2", SPARE, at=0)), REFUSED
    yield (
        "500 members, one header",
        build(Item(b"a", SPARE), *(Item(b"%d" % n, SPARE, at=0) for n in range(500))),
        REFUSED,
    )
    yield (
        "two empty members, one header",
        build(Item(b"a", b""), Item(b"b", b"", at=0)),
        REFUSED,
    )
    # A member whose data is header and data of the next one
    inner = Item(b"b", SPARE)
    kernel = inner.local_header() + SPARE
    outer = Item(b"a", kernel)
    position = len(outer.local_header())
    yield "member in member", build(outer, Item(b"b", SPARE, at=position)), REFUSED
    # The same in a stored block, so that both are valid deflate streams
    deflated = Item(b"b", bytes(50_000), DEFLATED)
    kernel = deflated.local_header()
    stored = struct.pack("<BHH", 0, len(kernel), len(kernel) ^ 0xFFFF) + kernel
    quoted = Item(
        b"a", kernel + bytes(50_000), DEFLATED, stored + deflated.compressed()
    )
    position = len(quoted.local_header()) + 5
    yield (
        "quoted member",
        build(quoted, Item(b"b", bytes(50_000), DEFLATED, at=position)),
        REFUSED,
    )
    yield (
        "member over the directory",
        build(Item(b"a", SPARE[:10], central={"compressed": 100, "size": 100})),
        REFUSED,
    )
    yield (
        "member by one byte too long",
        build(Item(b"a", SPARE), Item(b"b", central={"compressed": 18, "size": 18})),
        REFUSED,
    )
    yield (
        "extra of a header that reaches into the next member",
        build(Item(b"a", SPARE, local={"extra_length": 20}), Item(b"b")),
        REFUSED,
    )
    descriptor = {"flags": DESCRIPTOR}
    for label, size in {"small": 3000, "large": 3_000_000}.items():
        content = noise(size)
        reaching = Item(b"a", content, both=descriptor, local={"extra_length": 20})
        archive = build(reaching, Item(b"b"))
        yield f"{label} member pushed into the next by its extra", archive, REFUSED
        archive = build(reaching)
        yield f"{label} member pushed into the directory", archive, REFUSED
    yield (
        "header in the directory",
        build(Item(b"a"), Item(b"b", at=len(build(Item(b"a"))) - 60)),
        REFUSED,
    )
    yield "header behind the end", build(Item(b"a"), Item(b"b", at=10**6)), REFUSED
    yield (
        "header at the last byte",
        build(Item(b"a"), Item(b"b", b"", at=len(build(Item(b"a"), Item(b"b"))) - 1)),
        REFUSED,
    )
    yield (
        "members in another order",
        build(Item(b"a", SPARE, at=30 + 1 + 17), Item(b"b"), Item(b"c", before=b"")),
        REFUSED,
    )


def _indices() -> Iterator[Case]:
    digest = blake3(SPARE).digest()
    half = [blake3(SPARE[n : n + 1500]).digest() for n in (0, 1500)]
    header = len(Item(b"a").local_header())
    one = [(3000, 3000, digest)]
    two = [(1500, 1500, half[0]), (1500, 1500, half[1])]
    uneven = [
        (1000, 1000, blake3(SPARE[:1000]).digest()),
        (2000, 2000, blake3(SPARE[1000:]).digest()),
    ]

    def archive(
        parts: list[Part],
        record: bytes | None = None,
        after: bytes | None = None,
        **more: object,
    ) -> bytes:
        record = index(header, len(parts)) if record is None else record
        item = Item(b"a", SPARE, central={"extra": record} | more)
        after = table(parts) if after is None else after
        return build(item, before_directory=after)

    yield "index: right, one part", archive(one), {"a": SPARE}
    yield "index: right, two parts", archive(two), {"a": SPARE}
    yield "index: right, uneven parts", archive(uneven), {"a": SPARE}
    yield "index: right, gap", archive(one, after=b"gap" + table(one)), {"a": SPARE}
    wrong: dict[str, list[Part]] = {
        "one part too many": [*two, (0, 0, digest)],
        "one part missing": two[:1],
        "no parts": [],
        "empty part in front": [(0, 0, digest), *one],
        "empty part behind": [*one, (0, 0, digest)],
        "empty part between": [two[0], (0, 0, digest), two[1]],
        "part of nothing": [*one, (0, 1, digest)],
        "lengths swapped": [(1499, 1500, half[0]), (1501, 1500, half[1])],
        "borders shifted": [(1499, 1499, half[0]), (1501, 1501, half[1])],
        "length 0": [(0, 1500, half[0]), (3000, 1500, half[1])],
        "length too small": [two[0], (1499, 1500, half[1])],
        "length too large": [two[0], (1501, 1500, half[1])],
        "length in the file too small": [two[0], (1500, 1499, half[1])],
        "length in the file too large": [two[0], (1500, 1501, half[1])],
        "length 4 GiB": [(2**32 - 1, 1500, half[0]), two[1]],
        "length in the file 4 GiB": [(1500, 2**32 - 1, half[0]), two[1]],
        "digest 0": [(3000, 3000, bytes(32))],
        "digest of another part": [two[0], two[0]],
        "digests swapped": [two[1], two[0]],
        "first digest wrong": [(1500, 1500, digest), two[1]],
        "last digest wrong": [two[0], (1500, 1500, digest)],
    }
    for name, parts in wrong.items():
        yield f"index: {name}", archive(parts), REFUSED
    for name, record in {
        "2³² parts": index(header, 2**32 - 1),
        "count too large": index(header, 2),
        "count 0": index(header, 0),
        "header length 0": index(0, 1),
        "header length 29": index(29, 1),
        "header length too small": index(header - 1, 1),
        "header length too large": index(header + 1, 1),
        "header length 65535": index(65535, 1),
        "algorithm 0": index(header, 1, algorithm=0),
        "algorithm 2": index(header, 1, algorithm=2),
        "cut": extra(INDEX_ID, index(header, 1)[4:-1]),
        "only a version": extra(INDEX_ID, b"\1"),
        "junk": index(header, 1, junk=b"x"),
        "twice": index(header, 1) + index(header, 1),
        "two versions": index(header, 1) + index(header, 1, version=2),
        "longer than the field": index(header, 1)[:-1],
    }.items():
        yield f"index: {name}", archive(one, record), REFUSED
    for name, after in {
        "missing": b"",
        "only an end": table(one)[-8:],
        "without its end": table(one)[:-8],
        "with another end": table(one, magic=b"AMPU"),
        "that is cut": table(one)[1:],
        "that counts too many": table(one, count=2),
        "that counts too few": table(two, count=1),
        "that counts none": table(one, count=0),
        "that counts more than the archive holds": table(one, count=100),
        "that counts 2³² parts": table(one, count=2**32 - 1),
        "of another archive": table(two),
        "with a gap behind": table(one) + b"gap",
        "of members": table([(3000, 3000, digest)] * 80, count=80)[-3000:],
    }.items():
        yield f"table {name}", archive(one, after=after), REFUSED
    yield (
        "table in a member",
        build(
            Item(b"a", SPARE + table(one)[:-8], central={"extra": index(header, 1)}),
            before_directory=table(one)[-8:],
        ),
        REFUSED,
    )
    for name, record in {
        "later version": index(header, 0, version=2),
        "version 0": index(header, 0, version=0),
        "empty": extra(INDEX_ID, b""),
    }.items():
        yield f"index: {name}", archive(one, record), {"a": SPARE}
    yield "index: right, wrong CRC-32", archive(one, crc=1), REFUSED
    both = {"crc": 1}
    central = {"extra": index(header, 2)}
    yield (
        "index: two parts, wrong CRC-32",
        build(
            Item(b"a", SPARE, both=both, central=central), before_directory=table(two)
        ),
        REFUSED,
    )
    empty = Item(b"a", b"", central={"extra": index(header, 0)})
    yield (
        "index: empty file",
        build(empty, before_directory=table([])),
        {"a": b""},
    )
    empty.central = {"extra": index(header, 1)}
    yield (
        "index: part of an empty file",
        build(empty, before_directory=table([(0, 0, digest)])),
        REFUSED,
    )
    yield (
        "index: empty file, wrong CRC-32",
        build(Item(b"a", b"", both={"crc": 5}, indexed=True)),
        REFUSED,
    )
    yield from _deflated_indices(header)


def _deflated_indices(header: int) -> Iterator[Case]:
    raw = SPARE[:1500] * 2
    digest = blake3(SPARE[:1500]).digest()
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = compressor.compress(raw[:1500]) + compressor.flush(zlib.Z_FULL_FLUSH)
    last = compressor.compress(raw[1500:]) + compressor.flush()
    window = zlib.compressobj(9, zlib.DEFLATED, -15)
    first_sync = window.compress(raw[:1500]) + window.flush(zlib.Z_SYNC_FLUSH)
    last_sync = window.compress(raw[1500:]) + window.flush()

    def archive(pieces: list[bytes], lengths: list[int] | None = None) -> bytes:
        sizes = lengths or [len(piece) for piece in pieces]
        parts = [(size, 1500, digest) for size in sizes]
        data = b"".join(pieces)
        central = {"extra": index(header, len(parts))}
        item = Item(b"a", raw, DEFLATED, data, central=central)
        return build(item, before_directory=table(parts))

    yield "parts: right", archive([first, last]), {"a": raw}
    yield "parts: second refers to the first", archive([first_sync, last_sync]), REFUSED
    yield (
        "parts: border too early",
        archive([first, last], [len(first) - 1, len(last) + 1]),
        REFUSED,
    )
    yield (
        "parts: border too late",
        archive([first, last], [len(first) + 1, len(last) - 1]),
        REFUSED,
    )
    yield "parts: first ends the stream", archive([deflate(raw[:1500]), last]), REFUSED
    open_end = compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = open_end.compress(raw[1500:]) + compressor.flush(zlib.Z_FULL_FLUSH)
    yield "parts: stream without end", archive([first, tail]), REFUSED
    yield "parts: junk behind the stream", archive([first, last + b"junk"]), REFUSED
    longer = zlib.compressobj(9, zlib.DEFLATED, -15)
    more = longer.compress(raw[:1501]) + longer.flush(zlib.Z_FULL_FLUSH)
    yield "parts: first inflates to more", archive([more, last]), REFUSED
    shorter = zlib.compressobj(9, zlib.DEFLATED, -15)
    less = shorter.compress(raw[:1499]) + shorter.flush(zlib.Z_FULL_FLUSH)
    yield "parts: first inflates to less", archive([less, last]), REFUSED
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    huge = bomb.compress(bytes(2**20)) + bomb.flush(zlib.Z_FULL_FLUSH)
    yield "parts: first is a bomb", archive([huge, last]), REFUSED


def _contents() -> Iterator[Case]:
    for indexed in (False, True):
        kind = "indexed: " if indexed else ""
        for method, label in ((STORED, "stored"), (DEFLATED, "deflated")):
            damaged = bytearray(Item(content=SPARE, method=method).compressed())
            damaged[1000] ^= 0x10
            item = Item(b"a", SPARE, method, bytes(damaged), indexed=indexed)
            yield f"{kind}{label}, one bit of the data", build(item), REFUSED
            item = Item(b"a", SPARE, method, both={"crc": 0}, indexed=indexed)
            yield f"{kind}{label}, CRC-32 0", build(item), REFUSED
            item = Item(b"a", SPARE, method, indexed=False)
            item.both = {"size": 2999}
            yield f"{kind}{label}, size too small", build(item), REFUSED
            item.both = {"size": 3001}
            yield f"{kind}{label}, size too large", build(item), REFUSED
        bomb = deflate(bytes(2**22))
        item = Item(b"a", bytes(1000), DEFLATED, bomb, indexed=indexed)
        yield f"{kind}bomb", build(item), REFUSED
    item = Item(b"a", bytes(2**22), DEFLATED)
    yield "honest zeros", build(item), {"a": bytes(2**22)}
    yield "no stream", build(Item(b"a", SPARE, DEFLATED, b"")), REFUSED
    yield "stream of noise", build(Item(b"a", SPARE, DEFLATED, noise(500))), REFUSED
    data = deflate(SPARE)
    yield "stream cut", build(Item(b"a", SPARE, DEFLATED, data[:-1])), REFUSED
    yield (
        "junk behind stream",
        build(Item(b"a", SPARE, DEFLATED, data + b"junk")),
        REFUSED,
    )
    yield "second stream", build(Item(b"a", SPARE, DEFLATED, data + data)), REFUSED
    # A final block with the reserved type, and a length that is not its complement
    yield "reserved block", build(Item(b"a", SPARE, DEFLATED, b"\x07")), REFUSED
    yield (
        "wrong block",
        build(Item(b"a", b"1234", DEFLATED, struct.pack("<BHH", 1, 4, 4) + b"1234")),
        REFUSED,
    )
    yield (
        "distance too far",
        build(Item(b"a", b"\0" * 10, DEFLATED, bytes.fromhex("4b04120000"))),
        REFUSED,
    )
    for method in (1, 2, 5, 6, 7, 9, 12, 14, 93, 95, 96, 97, 98, 99, 255, 65535):
        both = {"method": method}
        yield f"method {method}", build(Item(both=both)), REFUSED
    for flag, name in {
        0x0001: "encrypted",
        0x0041: "strongly encrypted",
        0x2001: "directory encrypted",
        0x0010: "enhanced deflating",
        0x0020: "patch",
        0x0080: "unused bit 7",
        0x1000: "reserved bit 12",
        0x4000: "reserved bit 14",
        0x8000: "reserved bit 15",
    }.items():
        yield name, build(Item(both={"flags": flag})), REFUSED
    yield "flag of the compressor", build(Item(both={"flags": 6})), {"file": CONTENT}


# Names that are not files inside of the folder
EVIL_NAMES: dict[str, str] = {
    "empty": "",
    "dot": ".",
    "two dots": "..",
    "parent": "../evil",
    "parent twice": "../../evil",
    "parent in the middle": "a/../evil",
    "parent of all": "a/../../evil",
    "parent at the end": "a/..",
    "parent folder": "../",
    "dot in front": "./evil",
    "dot in the middle": "a/./evil",
    "dot at the end": "a/.",
    "absolute": "/tmp/evil",
    "root": "/",
    "two slashes": "//server/share/evil",
    "empty part": "a//evil",
    "empty part at the end": "a//",
    "backslash": "a\\evil",
    "backslash parent": "..\\evil",
    "backslash absolute": "\\evil",
    "UNC": "\\\\server\\share\\evil",
    "device path": "\\\\.\\PhysicalDrive0",
    "drive with backslash": "C:\\evil",
    "NUL": "evil\0.txt",
    "NUL in front": "\0",
    "NUL and parent": "a\0/../../evil",
    "newline": "evil\n",
    "return": "evil\r",
    "tab": "a\tb",
    "bell": "\a",
    "escape": "\x1b[31mred",
    "delete": "a\x7f",
    "C1 control": "a\x85b",
    "right to left override": "evil\u202egnp.exe",
    "left to right mark": "\u200eevil",
    "right to left mark": "\u200fevil",
    "isolate": "a\u2066b",
    "pop isolate": "a\u2069b",
    "Arabic letter mark": "a\u061cb",
    "256 characters": "a" * 256,
    "256 bytes": "ä" * 128,
    "folder of 256 characters": "a" * 256 + "/b",
    "2,049 characters": "/".join(["a" * 100] * 20) + "/" + "b" * 29,
    "65,535 characters": "/".join(["a" * 254] * 257),
    "4,096 bytes in 1,400 characters": "/".join(["€" * 80] * 18),
    "1,000 folders": "a/" * 1000 + "b",
}

# Names that are nothing but strange here
ODD_NAMES: dict[str, str] = {
    "drive": "C:/odd",
    "drive without slash": "C:odd",
    "stream": "a:b",
    "device": "CON",
    "device with suffix": "aux.txt",
    "superscript device": "COM¹",
    "home": "~/odd",
    "home of somebody": "~root/odd",
    "hidden": ".hidden",
    "three dots": ".../odd",
    "trailing dot": "odd.",
    "trailing space": "odd ",
    "leading space": " odd",
    "only a space": " ",
    "dash": "-rf",
    "asterisk": "*",
    "question mark": "?",
    "variable": "$HOME",
    "command": "`id`",
    "percent": "%2e%2e%2fodd",
    "quotes": "'\"",
    "pipe": "a|b<c>d",
    "full width slash": "a\uff0fb",
    "full width dots": "\uff0e\uff0e",
    "division slash": "..\u2215odd",
    "zero width space": "a\u200bb",
    "emoji": "🦉",
    "combining": "e\u0301",
    "255 characters": "a" * 255,
    "254 bytes": "ä" * 127,
    "100 folders": "a/" * 100 + "b",
    "case": "FILE",
}


def _names() -> Iterator[Case]:
    for label, name in EVIL_NAMES.items():
        data = b"" if name.endswith("/") else b"evil"
        item = Item(name.encode(), data, both={"flags": UTF8})
        yield f"name: {label}", build(Item(), item), REFUSED
    for label, name in ODD_NAMES.items():
        item = Item(name.encode(), b"odd", both={"flags": UTF8})
        yield f"name: {label}", build(Item(), item), {"file": CONTENT, name: b"odd"}
    for label, raw in {
        "not UTF-8": b"\xff\xfe",
        "cut UTF-8": "ä".encode()[:1],
        "overlong slash": b"..\xc0\xafevil",
        "overlong dot": b"\xc0\xae\xc0\xae/evil",
        "surrogate": b"\xed\xa0\x80",
        "above Unicode": b"\xf5\x80\x80\x80",
    }.items():
        yield f"name: {label}", build(Item(raw, both={"flags": UTF8})), REFUSED
    yield "name: code page 437", build(Item(b"\x84.bin", CONTENT)), {"ä.bin": CONTENT}
    dense = build(Item(b"\xb0\xb1\xb2", CONTENT), Item(b"b", CONTENT))
    yield "name: code page 437, no gap", dense, {"░▒▓": CONTENT, "b": CONTENT}
    yield "duplicate", build(Item(), Item()), REFUSED
    yield "duplicate with other content", build(Item(), Item(content=b"evil")), REFUSED
    yield (
        "duplicate in two encodings",
        build(Item(b"\x84"), Item("ä".encode(), both={"flags": UTF8})),
        REFUSED,
    )
    folder = Item(b"a/", b"", both={}, central={"mode": 0o040755})
    yield "folder twice", build(folder, folder), REFUSED
    yield "file and folder", build(Item(b"a"), folder), REFUSED
    yield "file and parent", build(Item(b"a"), Item(b"a/b")), REFUSED
    yield "file and parent of parents", build(Item(b"a/b/c/d"), Item(b"a/b")), REFUSED
    yield (
        "file and parent, others between",
        build(Item(b"a"), Item(b"a-"), Item(b"a!"), Item(b"a/b")),
        REFUSED,
    )
    yield (
        "names that only look like parents",
        build(Item(b"a"), Item(b"a-/b"), Item(b"a!"), Item(b"b/a"), Item(b"b/ab")),
        dict.fromkeys(("a", "a-/b", "a!", "b/a", "b/ab"), CONTENT),
    )


def _kinds() -> Iterator[Case]:
    for name, mode in {
        "symbolic link": 0o120777,
        "FIFO": 0o010644,
        "character device": 0o020644,
        "block device": 0o060644,
        "socket": 0o140755,
        "folder that is called a file": 0o040755,
        "unknown kind": 0o170644,
    }.items():
        yield name, build(Item(content=b"/etc/passwd", central={"mode": mode})), REFUSED
    yield (
        "folder that is a link",
        build(Item(b"a/", b"", central={"mode": 0o120777})),
        REFUSED,
    )
    yield (
        "folder that is called a regular file",
        build(Item(b"a/", b"", central={"mode": 0o100644})),
        REFUSED,
    )
    yield (
        "folder with content",
        build(Item(b"a/", b"evil", central={"mode": 0o040755})),
        REFUSED,
    )
    yield (
        "link and a file behind it",
        build(Item(b"a", b"/tmp", central={"mode": 0o120777}), Item(b"a/evil")),
        REFUSED,
    )
    for name, central in {
        "set-uid": {"mode": 0o104755},
        "set-gid": {"mode": 0o102755},
        "sticky": {"mode": 0o101777},
        "nobody may read": {"mode": 0o100000},
        "no kind": {"mode": 0},
        "made on DOS": {"system": 0, "mode": 0},
        "unknown system": {"system": 255, "mode": 0o120777},
        "text": {"internal": 1},
    }.items():
        yield f"file: {name}", build(Item(central=central)), {"file": CONTENT}
    for name, central in {
        "DOS folder": {"system": 0, "mode": 0, "dos": 0x10},
        "DOS label": {"system": 0, "mode": 0, "dos": 0x08},
        "DOS label and folder": {"system": 0, "mode": 0, "dos": 0x18},
        "DOS folder made on Unix": {"dos": 0x10},
    }.items():
        # What comes out depends on the program
        yield f"file: {name}", build(Item(central=central)), REFUSED
