r"""Numbers and arrays of NumPy as plain values, without NumPy.

NumPy describes a value by a type such as ``'<f8'`` and its bytes.
Numbers become those of Python, arrays become nested lists.

"""

from __future__ import annotations

from collections.abc import Sequence
import datetime
import math
import re
import struct
from typing import Any


MAX_VALUES = 200_000
MAX_DIMENSIONS = 32

_TYPE = re.compile(r"([<>|=]?)([fiubcUSMmO])(\d{1,7})(?:\[(\w+)\])?", re.A)
# Codes of the module ``struct``
_NUMBERS = {
    "b1": "?",
    "f2": "e",
    "f4": "f",
    "f8": "d",
    **{f"i{size}": code for size, code in ((1, "b"), (2, "h"), (4, "i"), (8, "q"))},
    **{f"u{size}": code for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))},
}
_PARTS_OF_COMPLEX = {"c8": "f", "c16": "d"}
_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - dates of NumPy have no zone
_NOT_A_TIME = -(2**63)
# Microseconds, as a fraction for what is shorter
_UNITS = {
    "W": (7 * 86_400_000_000, 1),
    "D": (86_400_000_000, 1),
    "h": (3_600_000_000, 1),
    "m": (60_000_000, 1),
    "s": (1_000_000, 1),
    "ms": (1000, 1),
    "us": (1, 1),
    "ns": (1, 1000),
}


def type_name(code: str, order: str, unit: str = "") -> str:
    r"""Name of a type as NumPy writes it.

    Args:
        code: kind and size, e.g. ``'f8'``
        order: order of bytes, one of ``'<'``, ``'>'``, ``'='``, or ``'|'``
        unit: unit of dates and times, e.g. ``'ms'``

    Returns:
        name, e.g. ``'<f8'``

    Raises:
        ValueError: if the type is not known

    """
    name = f"{order}{code}" + (f"[{unit}]" if unit else "")
    _parse(name)
    return name


def scalar(name: str, data: bytes) -> Any:
    r"""Value of a single number, text, date, or time.

    Raises:
        ValueError: if the type is not known, or the bytes are not of it

    """
    (value,) = _values(name, data, 1)
    return value


def array(name: str, data: bytes | list[Any], shape: Sequence[int], order: str) -> Any:
    r"""Nested lists with the values of an array.

    Args:
        name: name of the type
        data: its bytes, or a list of objects
        shape: number of values in each dimension
        order: ``'F'`` if the first dimension changes fastest, ``'C'`` if the last

    Returns:
        nested lists, or a single value if there is no dimension

    Raises:
        ValueError: if the type is not known,
            or the bytes do not match type and shape

    """
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("an array has a size that is no number")
    # Lists of nothing count as well
    if (
        len(shape) > MAX_DIMENSIONS
        or math.prod(max(length, 1) for length in shape) > MAX_VALUES
    ):
        raise ValueError(f"an array has more than {MAX_VALUES} values")
    values = _values(name, data, math.prod(shape))
    if order == "F":
        return _nested(values, shape, _steps_from_first(shape))
    return _nested(values, shape, _steps_from_last(shape))


def _steps_from_first(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[:axis]) for axis in range(len(shape))]


def _steps_from_last(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _nested(
    values: Sequence[Any], shape: Sequence[int], steps: Sequence[int], start: int = 0
) -> Any:
    if not shape:
        return values[start]
    return [
        _nested(values, shape[1:], steps[1:], start + index * steps[0])
        for index in range(shape[0])
    ]


def _parse(name: str) -> tuple[str, str, int, str]:
    r"""Order of bytes, kind, size, and unit of a type."""
    match = _TYPE.fullmatch(name)
    if match is None:
        raise ValueError(f"the NumPy type {name[:50]!r} is not supported")
    order, kind, size, unit = match.groups()
    return (">" if order == ">" else "<"), kind, int(size), unit or ""


def _values(name: str, data: bytes | list[Any], count: int) -> Sequence[Any]:
    order, kind, size, unit = _parse(name)
    if kind == "O":
        if not isinstance(data, list) or len(data) != count:
            raise ValueError(f"an array does not have {count} objects")
        return data
    size *= 4 if kind == "U" else 1
    if not isinstance(data, bytes) or len(data) != size * count:
        raise ValueError(f"a NumPy value does not have {size * count} bytes")
    if kind in "US":
        return [
            _text(data[start : start + size], kind, order)
            for start in range(0, size * count, size or 1)
        ] or [_text(b"", kind, order)] * count
    if kind == "c":
        code = _code(_PARTS_OF_COMPLEX, name, kind, size)
        parts = struct.unpack(f"{order}{2 * count}{code}", data)
        return [complex(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    if kind in "Mm":
        numbers = struct.unpack(f"{order}{count}q", data)
        return [_time(number, kind, unit) for number in numbers]
    return struct.unpack(f"{order}{count}{_code(_NUMBERS, name, kind, size)}", data)


def _code(codes: dict[str, str], name: str, kind: str, size: int) -> str:
    code = codes.get(f"{kind}{size}")
    if code is None:
        raise ValueError(f"the NumPy type {name!r} is not supported")
    return code


def _text(data: bytes, kind: str, order: str) -> str | bytes:
    if kind == "S":
        return data.rstrip(b"\0")
    return data.decode("utf-32-le" if order == "<" else "utf-32-be").rstrip("\0")


def _time(number: int, kind: str, unit: str) -> Any:
    r"""Date, time, or time span, nothing if it is ``NaT``."""
    if number == _NOT_A_TIME:
        return None
    if kind == "M" and unit in ("Y", "M"):
        months = number * (12 if unit == "Y" else 1)
        return datetime.date(1970 + months // 12, months % 12 + 1, 1)
    if unit not in _UNITS:
        raise ValueError(f"the NumPy unit of time {unit[:20]!r} is not supported")
    factor, divisor = _UNITS[unit]
    microseconds, rest = divmod(number * factor, divisor)
    if rest:
        raise ValueError("a time is more precise than a microsecond")
    span = datetime.timedelta(microseconds=microseconds)
    if kind == "m":
        return span
    time = _EPOCH + span
    return time.date() if unit in ("W", "D") else time
