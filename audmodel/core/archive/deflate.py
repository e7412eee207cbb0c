r"""Deflate in parts that inflate on their own.

A deflate stream [1]_ is a sequence of blocks.
A part ends with a full flush,
after which nothing refers to what came before,
so that parts can be made and read independently
while all of them together are one valid stream.

References:
    .. [1] RFC 1951, DEFLATE Compressed Data Format Specification, version 1.3

"""

from __future__ import annotations

from collections.abc import Iterator
import struct

from isal import isal_zlib

from audmodel.core.archive.format import KIB
from audmodel.core.errors import ArchiveError


_RAW = -15
_STORED_BLOCK = 65535
# Pieces that stay in the processor's cache
PIECE = 512 * KIB
SAMPLE = 32 * KIB

# Share of the original size
# up to which the fastest level bothers to compress.
# Inflating costs several times what reading from a fast disk or link costs:
# weights, which shrink to 0.92 as float32 and to 0.78 as bfloat16,
# load faster as they are.
_WORTHWHILE = 0.7

_GOES_ON = "its compressed data continues after its end"


def shrinks(samples: list[bytes], level: int) -> bool:
    r"""Whether compressing is worth it, judged by samples."""
    # Head and tail of a file may shrink while all that is between grows a bit
    typical = sorted(
        (len(_isal(sample, 1, last=True)) / len(sample) for sample in samples),
    )[len(samples) // 4 :]
    return sum(typical) < len(typical) * limit(level)


def limit(level: int) -> float:
    r"""Share of the original size that compressed content may have."""
    return _WORTHWHILE if level == 1 else 1.0


def deflate(data: bytes, level: int, *, last: bool) -> bytes:
    r"""Compress one part.

    Higher levels try more compressors, and the smallest result is taken,
    so that a higher level is never larger:

    * 1 and 2: ISA-L's level 1
    * 3 to 5: also ISA-L's level 3
    * 6 to 9: also zlib's level 9

    Args:
        data: content of the part
        level: compression level from 1 to 9
        last: whether the stream ends with this part

    Returns:
        part of a deflate stream,
        never more than a few bytes per 64 KiB larger than ``data``

    """
    best = _isal(data, 1, last=last)
    if level >= 3:
        best = min(best, _isal(data, 3, last=last), key=len)
    if level >= 6:
        best = min(best, _zlib(data, last=last), key=len)
    if len(best) >= len(data):
        best = _store(data, last=last)
    return best


def _isal(data: bytes, level: int, *, last: bool) -> bytes:
    compressor = isal_zlib.compressobj(level, isal_zlib.DEFLATED, _RAW)
    flush = isal_zlib.Z_FINISH if last else isal_zlib.Z_FULL_FLUSH
    return bytes(compressor.compress(data) + compressor.flush(flush))


def _zlib(data: bytes, *, last: bool) -> bytes:
    import zlib

    compressor = zlib.compressobj(9, zlib.DEFLATED, _RAW, 9)
    flush = zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH
    return compressor.compress(data) + compressor.flush(flush)


def _store(data: bytes, *, last: bool) -> bytes:
    r"""Stored blocks: 5 bytes in front of at most 65,535 bytes of content."""
    pieces = []
    for start in range(0, len(data), _STORED_BLOCK):
        block = data[start : start + _STORED_BLOCK]
        final = last and start + _STORED_BLOCK >= len(data)
        pieces.append(struct.pack("<BHH", int(final), len(block), len(block) ^ 0xFFFF))
        pieces.append(block)
    return b"".join(pieces)


class Inflater:
    r"""Inflate a stream or a part of one, and not a byte more than declared.

    Args:
        size: bytes that come out

    """

    def __init__(self, size: int) -> None:
        self._decompressor = isal_zlib.decompressobj(_RAW)
        self._left = size

    def feed(self, data: memoryview) -> Iterator[bytes]:
        r"""Inflate the next bytes.

        Yields:
            pieces of the content

        Raises:
            ArchiveError: if the bytes are no deflate stream,
                or more comes out than declared

        """
        for start in range(0, len(data), PIECE):
            if self._decompressor.eof:
                # The decompressor would keep these bytes in memory
                raise ArchiveError(_GOES_ON)
            piece: memoryview | bytes = data[start : start + PIECE]
            more = True
            while more:
                # One byte more than expected tells if there is more
                limit = min(self._left, 2 * PIECE) + 1
                try:
                    raw = self._decompressor.decompress(piece, limit)
                except isal_zlib.error as error:  # type: ignore[misc]
                    raise ArchiveError("its compressed data is damaged") from error
                self._left -= len(raw)
                if self._left < 0:
                    raise ArchiveError("its compressed data holds more than declared")
                piece = self._decompressor.unconsumed_tail
                # Without input there may still be output that was held back
                more = len(raw) == limit or (len(piece) > 0 and len(raw) > 0)
                if raw:
                    yield raw

    def finish(self, *, last: bool) -> None:
        r"""Check that everything has come out.

        Args:
            last: whether the stream had to end

        Raises:
            ArchiveError: if something is missing or left over

        """
        decompressor = self._decompressor
        if decompressor.unused_data or decompressor.unconsumed_tail:
            raise ArchiveError(_GOES_ON)
        if self._left or last != decompressor.eof:
            raise ArchiveError("its compressed data holds less than declared")
