r"""Where tensors are in the files of common formats.

The formats are safetensors [1]_, GGUF [2]_,
ONNX [3]_ with weights in the file or beside it,
and ZIP files as NumPy and PyTorch write them.
Only what describes the tensors is read,
and what is found was not checked against the size of the file.

References:
    .. [1] https://huggingface.co/docs/safetensors
    .. [2] https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    .. [3] https://github.com/onnx/onnx/blob/main/onnx/onnx.proto

"""

from __future__ import annotations

from collections.abc import Iterator
import itertools
import json
import posixpath
import struct
from typing import Any
from typing import TypeAlias

from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.window import Window


# Position of the first byte, and of the byte after the last one
Range: TypeAlias = tuple[int, int]

_MAX_HEADER = 32 * format.KIB * format.KIB
_MAX_RECORDS = 4_000_000

_GGUF = b"GGUF"
_GGUF_ALIGNMENT = b"general.alignment"
_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_STRING = 8
_GGUF_ARRAY = 9

# Fields of the messages of ONNX
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
# float_data, int32_data, int64_data, raw_data, double_data, uint64_data
_TENSOR_DATA = {4, 5, 7, 9, 10, 11}
_TENSOR_EXTERNAL = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def find(name: str, file: Window) -> Iterator[Range]:
    r"""Tensors in a file.

    Yields:
        where they are

    Raises:
        Exception: of many kinds, if the file is not what it seems to be

    """
    head = file.read(0, min(9, file.size))
    if head.startswith(_GGUF):
        yield from _gguf(file)
    elif head.startswith(format.LOCAL_MAGIC):
        yield from _zip(file)
    elif name.endswith(".onnx"):
        for tensor in _initializers(file):
            for number, start, stop in tensor:
                if number in _TENSOR_DATA:
                    yield start, stop
    elif head.endswith(b"{"):
        yield from _safetensors(file)


def external(name: str, file: Window) -> Iterator[tuple[str, Range]]:
    r"""Tensors of an ONNX model that are in other files.

    Yields:
        name of the other file, and where the tensor is in it

    Raises:
        Exception: of many kinds, if the file is not what it seems to be

    """
    for tensor in _initializers(file):
        entries = {}
        for number, start, stop in tensor:
            if number == _TENSOR_EXTERNAL:
                texts = {
                    number: file.read(start, stop - start).decode()
                    for number, start, stop in _fields(file, start, stop)
                }
                entries[texts[_ENTRY_KEY]] = texts[_ENTRY_VALUE]
        if "length" in entries:
            other = posixpath.join(posixpath.dirname(name), entries["location"])
            start = int(entries.get("offset", 0))
            yield posixpath.normpath(other), (start, start + int(entries["length"]))


def _safetensors(file: Window) -> Iterator[Range]:
    (length,) = struct.unpack("<Q", file.read(0, 8))
    if length > _MAX_HEADER:
        raise ValueError("the header is too long")
    start = 8 + length
    places: list[Any] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        places.extend(value for key, value in pairs if key == "data_offsets")

    # The whole of it takes many times the memory of what is of interest
    json.loads(file.read(8, length), object_pairs_hook=keep)
    for first, last in places:
        yield start + first, start + last


def _zip(file: Window) -> Iterator[Range]:
    directory = end.parse(end.read(file), file.size)
    for member in directory.files():
        header = file.read(member.header_offset, format.LOCAL.size)
        *_, name_length, extra_length = format.LOCAL.unpack(header)
        start = member.header_offset + len(header) + name_length + extra_length
        yield start, start + member.compressed_size


def _gguf(file: Window) -> Iterator[Range]:
    version, num_tensors, num_values = struct.unpack("<LQQ", file.read(4, 20))
    if version not in (2, 3) or max(num_tensors, num_values) > _MAX_RECORDS:
        raise ValueError("the version is not known")
    position = 24
    alignment = 32
    for _ in range(num_values):
        key, position = _gguf_string(file, position)
        (kind,) = struct.unpack("<L", file.read(position, 4))
        if key == _GGUF_ALIGNMENT:
            (alignment,) = struct.unpack("<L", file.read(position + 4, 4))
        position = _after_gguf_value(file, position + 4, kind)
    offsets: list[int] = []
    for _ in range(num_tensors):
        _, position = _gguf_string(file, position)
        (num_dimensions,) = struct.unpack("<L", file.read(position, 4))
        position += 4 + 8 * num_dimensions + 4
        offsets.append(*struct.unpack("<Q", file.read(position, 8)))
        position += 8
    start = position + -position % alignment
    starts = sorted(start + offset for offset in offsets)
    yield from itertools.pairwise([*starts, file.size])


def _gguf_string(file: Window, position: int) -> tuple[bytes, int]:
    (length,) = struct.unpack("<Q", file.read(position, 8))
    stop = position + 8 + length
    # Nothing but the name of the alignment is of interest
    return file.read(position + 8, min(length, len(_GGUF_ALIGNMENT) + 1)), stop


def _after_gguf_value(file: Window, position: int, kind: int) -> int:
    if kind == _GGUF_STRING:
        return _gguf_string(file, position)[1]
    if kind != _GGUF_ARRAY:
        return position + _GGUF_SIZES[kind]
    kind, count = struct.unpack("<LQ", file.read(position, 12))
    position += 12
    if kind != _GGUF_STRING:
        length: int = count * _GGUF_SIZES[kind]
        return position + length
    if count > _MAX_RECORDS:
        raise ValueError("an array is too long")
    for _ in range(count):
        _, position = _gguf_string(file, position)
    return position


def _initializers(file: Window) -> Iterator[list[tuple[int, int, int]]]:
    r"""Fields of the tensors of an ONNX graph."""
    for model_field, start, stop in _fields(file, 0, file.size):
        if model_field == _MODEL_GRAPH:
            for number, tensor_start, tensor_stop in _fields(file, start, stop):
                if number == _GRAPH_INITIALIZER:
                    yield list(_fields(file, tensor_start, tensor_stop))


def _fields(file: Window, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    r"""Number and place of the fields of a Protocol Buffers message that have bytes.

    See https://protobuf.dev/programming-guides/encoding.
    """
    position = start
    for _ in range(_MAX_RECORDS):
        if position == stop:
            return
        key, position = _varint(file, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            _, position = _varint(file, position)
        elif kind == 2:
            length, position = _varint(file, position)
            yield number, position, position + length
            position += length
        else:
            position += {1: 8, 5: 4}[kind]
        if position > stop:
            raise ValueError("a field goes beyond the message")
    raise ValueError("a message has too many fields")


def _varint(file: Window, position: int) -> tuple[int, int]:
    value = 0
    for number, byte in enumerate(file.read(position, 10, may_end=True)):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, position + number + 1
    raise ValueError("a number does not end")
