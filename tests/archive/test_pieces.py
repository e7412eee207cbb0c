"""Pieces of an archive are found in another one, with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from audmodel.core.archive.pieces import KnownPieces
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.operations import folder as folders
from tests.archive.tools import KIB
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import text
from tests.archive.tools import write


PART = 50 * KIB
FILES = {
    "noise": noise(300 * KIB),
    "small/a": text(3000),
    "small/b": noise(900),
    "small/empty": b"",
    "text": text(300 * KIB),
    "zeros": bytes(200 * KIB),
}


def found(
    root: Path, old: bytes, **arguments: object
) -> tuple[int, list[tuple[bytes, int, bool]]]:
    """Size of an archive, and what of it another one has."""
    known = KnownPieces(parse(old))
    pieces = []
    writer = ArchiveWriter(
        folders.scan(str(root)).files,
        part_size=PART,
        **arguments,  # type: ignore[arg-type]
    )
    for piece in writer.pieces():
        offset = known.find(piece)
        if offset is not None:
            pieces.append((piece.data, offset, piece.is_certain))
    return writer.size, pieces


@pytest.mark.parametrize("compression", [0, 1, 6])
def test_the_same_folder_gives_the_same_pieces(
    compression: int, tmp_path: Path
) -> None:
    root = make_folder(tmp_path, FILES)
    old = write(root, part_size=PART, compression=compression)
    size, pieces = found(root, old, compression=compression)
    assert size == len(old)
    assert all(old[offset:].startswith(data) for data, offset, _ in pieces)
    # All but what follows the members, also where parts are equal to each other
    position = 0
    for data, offset, _ in pieces:
        assert offset == position
        position += len(data)
    assert position == parse(old).offset


def test_pieces_are_found_where_they_have_moved(tmp_path: Path) -> None:
    old = write(make_folder(tmp_path / "old", FILES), part_size=PART)
    changed = {
        **FILES,
        "before": noise(1000, 1),
        "noise": FILES["noise"][: 2 * PART]
        + noise(10, 2)
        + FILES["noise"][2 * PART + 10 :],
        "renamed": FILES["text"],
    }
    del changed["text"]
    size, pieces = found(make_folder(tmp_path / "new", changed), old)
    assert all(old[offset:].startswith(data) for data, offset, _ in pieces)
    assert sum(len(data) for data, _, _ in pieces) > 0.5 * size


def test_a_part_at_the_end_of_a_stream_is_another_one(tmp_path: Path) -> None:
    """The same bytes of a file, and maybe as many bytes in the archive."""
    content = text(PART)
    old = write(make_folder(tmp_path / "old", {"a": content * 2}), part_size=PART)
    _, pieces = found(make_folder(tmp_path / "new", {"b": content * 3}), old)
    parts = [(data, offset) for data, offset, _ in pieces if data[:2] != b"PK"]
    assert len(parts) == 3
    assert all(old[offset:].startswith(data) for data, offset in parts)


def test_only_stored_parts_are_certain(tmp_path: Path) -> None:
    root = make_folder(tmp_path, FILES)
    old = write(root, part_size=PART, compression=0)
    _, pieces = found(root, old, compression=0)
    certain = b"".join(data for data, _, is_certain in pieces if is_certain)
    assert certain == b"".join(FILES.values())
    old = write(root, part_size=PART, compression=6)
    _, pieces = found(root, old, compression=6)
    certain = b"".join(data for data, _, is_certain in pieces if is_certain)
    # Neither of them shrinks
    assert certain == FILES["noise"] + FILES["small/b"]


def test_what_is_remembered_is_limited(tmp_path: Path) -> None:
    old = write(make_folder(tmp_path, FILES), part_size=PART)
    known = KnownPieces(parse(old), limit=4)
    writer = ArchiveWriter(folders.scan(str(tmp_path)).files, part_size=PART)
    offsets = [known.find(piece) for piece in writer.pieces()]
    assert offsets[0] == 0
    assert sum(offset is not None for offset in offsets) == 4


def test_archives_of_earlier_releases_have_no_known_pieces(tmp_path: Path) -> None:
    root = make_folder(tmp_path, FILES)
    directory = parse(write(root, part_size=PART))
    for member in directory.members:
        member.index = None
    known = KnownPieces(directory)
    writer = ArchiveWriter(folders.scan(str(root)).files, part_size=PART)
    assert all(known.find(piece) is None for piece in writer.pieces())
