r"""Values of Python's own types, which documents hold."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import datetime
import numbers
import operator
import re
from typing import Any

from audmodel.core.errors import InvalidDataError
from audmodel.core.yaml import python_tags
from audmodel.core.yaml.checks import MAX_DEPTH
from audmodel.core.yaml.checks import MAX_NODES


class Plain:
    r"""Makes values with the same content of Python's own types."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._count = 0

    def convert(self, value: Any, where: str, depth: int) -> Any:
        r"""Value of Python's own types.

        Raises:
            InvalidDataError: if it cannot be stored,
                or there are too many or too deep values

        """
        self._count += 1
        if self._count > MAX_NODES:
            raise InvalidDataError(
                f"'{self._label}' has more than {MAX_NODES} values, "
                "keys of dictionaries included."
            )
        if value is None or type(value) in _PLAIN_TYPES:
            return value
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if depth >= MAX_DEPTH:
                raise InvalidDataError(
                    f"'{self._label}' is nested too deep, more than {MAX_DEPTH} levels."
                )
            return self._collection(value, where, depth + 1)
        if isinstance(value, str):
            return str.__str__(value)
        for kind, plain in _NUMBERS:
            if isinstance(value, kind):
                # A time span of NumPy counts as an integer, but is none
                with contextlib.suppress(TypeError):
                    return plain(value)
                break
        raise InvalidDataError(
            f"{where} is of type {type(value).__name__} and cannot be stored. "
            "Use strings, numbers, dates, times, paths, "
            "and lists, tuples, sets, or dictionaries of them."
        )

    def _collection(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, Mapping):
            return {
                self.convert(key, where, depth): self.convert(
                    item, f"{where}[{key!r}]", depth
                )
                for key, item in value.items()
            }
        items = [self.convert(item, where, depth) for item in value]
        if isinstance(value, list | tuple):
            return items if isinstance(value, list) else tuple(items)
        return set(items)


# From the narrowest kind on
_NUMBERS: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (numbers.Integral, operator.index),
    (numbers.Real, float),
    (numbers.Complex, complex),
)
_PLAIN_TYPES = {
    bool,
    int,
    float,
    str,
    bytes,
    datetime.date,
    datetime.datetime,
    *python_tags.TYPES,
}
# libyaml writes other texts, long and empty keys, and keys that are
# no scalars in another way than PyYAML, which earlier releases used
_SIMPLE_TEXT = re.compile(r"[ -~]*")
_SIMPLE_KEY = re.compile(r"[ -~]{1,100}")


def is_simple(value: Any, pattern: re.Pattern[str] = _SIMPLE_TEXT) -> bool:
    r"""Whether libyaml writes the same bytes for a plain value as PyYAML."""
    if isinstance(value, str):
        return pattern.fullmatch(value) is not None
    if isinstance(value, dict):
        return all(
            isinstance(key, str) and is_simple(key, _SIMPLE_KEY) and is_simple(item)
            for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return all(map(is_simple, value))
    return value is None or type(value) in (bool, int, float, datetime.date)


def is_same(value: Any, other: Any) -> bool:
    r"""Whether two plain values are of the same types and equal."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict):
        return is_same(list(value.items()), list(other.items()))
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(is_same, value, other))
    if isinstance(value, float) and value == 0:
        return repr(value) == repr(other)
    if isinstance(value, datetime.datetime):
        return bool(value.isoformat() == other.isoformat())
    # Not a number does not equal itself
    return bool(value == other) or repr(value) == repr(other)
