"""Contents are divided into parts that storages accept."""

from __future__ import annotations

import hashlib
import random
from typing import TypeAlias

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import CopyableChunk
from audmodel.core.backend.s3 import parts as s3_parts
from audmodel.core.backend.s3.parts import CopiedPart
from audmodel.core.backend.s3.parts import parts_of


SOURCE = random.Random(1).randbytes(5000)
# Bytes to be sent, and position and length of bytes to be copied
Plan: TypeAlias = list[bytes | tuple[int, int]]
# What is divided here is a hundred thousand times as small
SMALLEST = 80
LEAST = 50

sent = st.binary(max_size=120)
copied = st.tuples(st.integers(0, 4000), st.integers(0, 900))


@pytest.fixture(autouse=True, scope="module")
def small() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_parts, "_SMALLEST", LEAST)
        patch.setattr(s3_parts, "PARTS_OF_ONE_SIZE", 5)
        yield


def chunks_of(plan: Plan, step: int) -> list[Chunk]:
    """Chunks, of which those to copy come in pieces."""
    chunks: list[Chunk] = []
    for item in plan:
        if isinstance(item, bytes):
            chunks.append(item)
            continue
        start, length = item
        for offset in range(start, start + length, step):
            stop = min(offset + step, start + length)
            chunks.append(CopyableChunk(SOURCE[offset:stop], offset))
    return chunks


def content(chunks: list[Chunk]) -> bytes:
    return b"".join(
        chunk.data if isinstance(chunk, CopyableChunk) else chunk for chunk in chunks
    )


def composed(parts: list[bytes | CopiedPart]) -> bytes:
    """What a storage makes of parts."""
    return b"".join(
        SOURCE[part.start : part.stop] if isinstance(part, CopiedPart) else part
        for part in parts
    )


@given(st.lists(st.one_of(sent, copied), max_size=40), st.integers(1, 100))
@settings(max_examples=300)
def test_parts_hold_the_content_and_are_large_enough(plan: Plan, step: int) -> None:
    chunks = chunks_of(plan, step)
    parts = list(parts_of(iter(chunks), SMALLEST, hashing=True))
    assert composed(parts) == content(chunks)
    for number, part in enumerate(parts):
        # A copied part was large enough when its first bytes came
        size = s3_parts.part_size(max(0, number - 2), SMALLEST)
        assert part
        assert len(part) >= size * 5 // 8 or number == len(parts) - 1
        if isinstance(part, CopiedPart):
            data = SOURCE[part.start : part.stop]
            assert part.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_runs_are_joined_and_too_short_ones_sent() -> None:
    plan: Plan = [b"a" * 3, (0, 30), b"b" * 10, (100, 200), b"c", (700, 120), b"d" * 9]
    parts = list(parts_of(chunks_of(plan, 20), SMALLEST))
    assert [
        (part.start, part.stop) if isinstance(part, CopiedPart) else len(part)
        for part in parts
    ] == [
        # Bytes that have to be sent, a run that is too short, and 7 borrowed ones
        LEAST,
        (107, 300),
        # One byte, and what it borrows
        LEAST,
        (749, 820),
        9,
    ]


def test_a_long_run_is_copied_in_several_parts_and_as_a_whole() -> None:
    (first, second, third) = parts_of(chunks_of([(0, 1000), b"end"], 10), SMALLEST)
    assert isinstance(first, CopiedPart)
    assert isinstance(second, CopiedPart)
    assert (first.start, first.stop) == (0, 8 * SMALLEST)
    assert (second.start, second.stop) == (8 * SMALLEST, 1000)
    assert third == b"end"
    # What is left is too small for a part of its own
    (only, end) = parts_of(chunks_of([(0, 8 * SMALLEST + 20), b"end"], 10), SMALLEST)
    assert isinstance(only, CopiedPart)
    assert (only.start, only.stop) == (0, 8 * SMALLEST + 20)
    assert end == b"end"


def test_ten_thousand_parts_hold_the_largest_archive() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_parts, "PARTS_OF_ONE_SIZE", 2500)
        smallest = [s3_parts.part_size(number) * 5 // 8 for number in range(10_000)]
        largest = s3_parts.part_size(9999)
    assert smallest[0] == 5 * s3_parts.MIB
    assert sum(smallest) > 1024**4 + 2**33
    # What one request may copy
    assert largest * 9 < 5 * 1024**3
