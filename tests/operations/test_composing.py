"""An archive that is made of parts of another one is the same archive."""

from __future__ import annotations

import os
from pathlib import Path
import random

import pytest

from audmodel.core.archive.pieces import KnownPieces
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.s3 import parts as s3_parts
from audmodel.core.backend.s3.parts import CopiedPart
from audmodel.core.backend.s3.parts import parts_of
from audmodel.core.operations import folder as folders
from audmodel.core.operations.base import Base
from tests.archive.tools import KIB
from tests.archive.tools import MemorySource
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import text
from tests.archive.tools import write


TORTURE = "TORTURE" in os.environ
MANY = 200 if TORTURE else 40
# Everything is some thousand times as small as usual
PART = 4 * KIB
SMALLEST = 8 * KIB
FILES = {
    "config/1.yaml": text(300, 1),
    "config/2.yaml": text(900, 2),
    "large": noise(60 * KIB, 3),
    "shard-1": noise(20 * KIB, 4),
    "shard-2": noise(30 * KIB, 5),
    "text": text(80 * KIB, 6),
    "zeros": bytes(20 * KIB),
}


@pytest.mark.parametrize("copying", [Copying.CERTAIN, Copying.ALL])
@pytest.mark.parametrize("count", [20, pytest.param(MANY, marks=pytest.mark.thorough)])
def test_random_edits(
    copying: Copying, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "_SMALLEST", 5 * KIB)
    root = make_folder(tmp_path, FILES)
    # The same edits each time, but in make torture
    seed = random.randrange(2**32) if TORTURE else 0
    dice = random.Random(seed)
    old = write(root, part_size=PART)
    copied = size = 0
    for number in range(count):
        what = edit(root, dice)
        compression = dice.choice([0, 1, 1, 6])
        source = CopySource("", "", len(old), old[-100:])
        base = Base(source, copying, KnownPieces(parse(old)), MemorySource(old))
        writer = ArchiveWriter(
            folders.scan(str(root)).files, part_size=PART, compression=compression
        )
        parts = list(parts_of(map(base.chunk, writer.pieces()), SMALLEST))
        composed = b"".join(
            old[part.start : part.stop] if isinstance(part, CopiedPart) else part
            for part in parts
        )
        expected = write(root, part_size=PART, compression=compression)
        assert composed == expected, (seed, number, what, differing(composed, expected))
        copied += sum(len(part) for part in parts if isinstance(part, CopiedPart))
        size += len(expected)
        old = expected
    assert 0.1 * size < copied < size, seed


def differing(first: bytes, second: bytes) -> list[tuple[int, str, str]]:
    """Position and bytes, as numbers, of where two archives differ, the first few."""
    found = [
        (position, f"{pair[0]:#04x}", f"{pair[1]:#04x}")
        for position, pair in enumerate(zip(first, second, strict=False))
        if pair[0] != pair[1]
    ]
    return [(len(found), str(len(first)), str(len(second))), *found[:20]]


def edit(root: Path, dice: random.Random) -> str:
    """Change a folder a bit."""
    path = dice.choice(sorted(path for path in root.rglob("*") if path.is_file()))
    data = path.read_bytes()
    offset = dice.randrange(len(data))
    piece = dice.randbytes(dice.choice([1, 100, 6000]))
    kind = dice.choice(["replace", "insert", "remove", "append", "rename", "add"])
    if kind == "replace":
        data = (data[:offset] + piece + data[offset + len(piece) :])[: len(data)]
    elif kind == "insert":
        data = data[:offset] + piece + data[offset:]
    elif kind == "remove":
        data = data[:offset] + data[offset + len(piece) :] or b"x"
    elif kind == "append":
        data += piece
    elif kind == "add":
        path, data = root / dice.randbytes(4).hex(), piece
    else:
        path.unlink()
        path = path.with_name(dice.randbytes(4).hex())
    path.write_bytes(data)
    return f"{kind} {path.name} {offset} {len(piece)}"


def test_one_percent_in_one_place_takes_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 512 MiB in which 5 MiB changed, a thousand times as small."""
    monkeypatch.setattr(s3_parts, "_SMALLEST", 5 * KIB)
    content = noise(512 * KIB)
    old = write(make_folder(tmp_path, {"weights": content}), part_size=PART)
    base = Base(
        CopySource("", "", len(old), old[-100:]),
        Copying.CERTAIN,
        KnownPieces(parse(old)),
        MemorySource(old),
    )
    for offset in (0, 100 * KIB + 7, len(content) - 5 * KIB):
        changed = bytearray(content)
        changed[offset : offset + 5 * KIB] = noise(5 * KIB, 1)
        make_folder(tmp_path, {"weights": bytes(changed)})
        writer = ArchiveWriter(folders.scan(str(tmp_path)).files, part_size=PART)
        parts = list(parts_of(map(base.chunk, writer.pieces()), SMALLEST))
        sent = sum(len(part) for part in parts if isinstance(part, bytes))
        # The table of parts is a thousand times as small in reality
        table = len(old) - parse(old).offset
        assert sent - table < 0.03 * len(old)
