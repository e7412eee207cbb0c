r"""Values that earlier releases wrote with tags of Python.

audmodel 1.x stored all values that PyYAML can write.
For a value that is not plain, PyYAML writes the name of a class in a tag,
and the arguments to call it with.
The names listed here belong to values that are only data.
This module decodes them:
nothing is looked up, imported, or called because a document names it.
All other names are refused.

"""

from __future__ import annotations

from collections.abc import Callable
import datetime
from decimal import Decimal
from fractions import Fraction
import pathlib
from typing import Any
from typing import cast
import uuid

import yaml
from yaml.representer import Representer as _Representer

from audmodel.core.yaml import numpy_values


_PYTHON = "tag:yaml.org,2002:python/"
_APPLY = f"{_PYTHON}object/apply:"
_NAME = f"{_PYTHON}name:"
_ARRAY = f"{_NAME}numpy.ndarray"
_FACTORIES = tuple(
    f"{_NAME}builtins.{name}" for name in ("dict", "float", "int", "list", "set", "str")
)
_MAX_TEXT = 4400


class _Call:
    r"""What a tag says about a value."""

    def __init__(self, loader: Any, node: yaml.Node) -> None:
        self._loader = loader
        parts: dict[str, yaml.Node] = {}
        if isinstance(node, yaml.MappingNode):
            parts = {key.value: value for key, value in node.value}
            if not parts.keys() <= {"args", "state", "dictitems", "listitems"}:
                raise yaml.YAMLError(f"tag {node.tag!r} has arguments that are unknown")
        elif isinstance(node, yaml.SequenceNode):
            parts = {"args": node}
        else:
            raise yaml.YAMLError(f"tag {node.tag!r} has no arguments")
        self._parts = parts

    @property
    def nodes(self) -> list[yaml.Node]:
        r"""Arguments that are not constructed yet."""
        node = self._parts.get("args")
        return node.value if isinstance(node, yaml.SequenceNode) else []

    @property
    def args(self) -> list[Any]:
        return [self.value(node) for node in self.nodes]

    @property
    def state(self) -> Any:
        node = self._parts.get("state")
        return None if node is None else self.value(node)

    @property
    def items(self) -> Any:
        r"""Items that are added to the value afterwards."""
        node = self._parts.get("dictitems") or self._parts.get("listitems")
        return None if node is None else self.value(node)

    def value(self, node: yaml.Node) -> Any:
        return self._loader.construct_object(node, deep=True)

    def keys(self, node: yaml.Node) -> set[Any]:
        r"""Values of a list, which are checked as those of a dictionary are."""
        if not isinstance(node, yaml.SequenceNode):
            raise yaml.YAMLError("a set is not made of a list")
        nothing = yaml.ScalarNode("tag:yaml.org,2002:null", "")
        pairs = yaml.MappingNode(node.tag, [(item, nothing) for item in node.value])
        return set(self._loader.construct_mapping(pairs, deep=True))


# ----------------------------------------------------------------- NumPy


def _type(call: _Call) -> str:
    code = call.args[0]
    _, order, *others = call.state
    unit = ""
    if len(others) > 6:
        # Dates and times have a unit
        name, count = others[6][1][:2]
        unit = name.decode("ascii")
        if count != 1:
            raise ValueError("a unit of several times is not supported")
    return numpy_values.type_name(code, order, unit)


def _scalar(call: _Call) -> Any:
    name, data = call.args
    return numpy_values.scalar(name, data)


def _array(call: _Call) -> Any:
    if [node.tag for node in call.nodes[:1]] != [_ARRAY]:
        raise yaml.YAMLError("an array of an unknown kind")
    _, shape, name, is_fortran, data = call.state
    return numpy_values.array(name, data, shape, "F" if is_fortran else "C")


# ----------------------------------------------------------------- dates


def _time(call: _Call) -> datetime.time:
    data, *zone = call.args
    hour, minute, second, *rest = data
    # The highest bit tells which of two equal times it is
    return datetime.time(
        hour & 0x7F,
        minute,
        second,
        int.from_bytes(rest, "big"),
        *zone,
        fold=hour >> 7,
    )


def _zone(call: _Call) -> datetime.timezone:
    return datetime.timezone(*call.args)


def _span(call: _Call) -> datetime.timedelta:
    return datetime.timedelta(*call.args)


# --------------------------------------------------------------- numbers


def _complex(loader: Any, node: yaml.Node) -> complex:
    return complex(_short(loader.construct_scalar(node)))


def _decimal(call: _Call) -> Decimal:
    (text,) = call.args
    return Decimal(_short(text))


def _fraction(call: _Call) -> Fraction:
    args = call.args
    if len(args) == 1 and isinstance(args[0], str):
        # Python 3.10 wrote a text. An exponent would take all memory
        args = [int(part) for part in _short(args[0]).split("/")]
    if not all(type(number) is int for number in args):
        raise ValueError("a fraction is not made of integers")
    return Fraction(*args)


def _short(text: str) -> str:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"a number has more than {_MAX_TEXT} characters")
    return text


# ----------------------------------------------------------- collections


def _path(kind: type[pathlib.PurePath]) -> Callable[[_Call], pathlib.PurePath]:
    return lambda call: kind(*call.args)


def _frozenset(call: _Call) -> frozenset[Any]:
    return frozenset(call.keys(call.nodes[0])) if call.nodes else frozenset()


def _bytes(call: _Call) -> bytes:
    if not call.nodes:
        return b""
    text, encoding = call.args
    if encoding != "latin-1":
        raise ValueError("bytes of an unknown encoding")
    return bytes(text, "latin-1")


def _counter(call: _Call) -> dict[Any, Any]:
    (counts,) = call.args or [{}]
    if not isinstance(counts, dict):
        raise yaml.YAMLError("a counter is not made of a dictionary")
    return counts


def _default_dict(call: _Call) -> dict[Any, Any]:
    if any(node.tag not in _FACTORIES for node in call.nodes):
        raise yaml.YAMLError("a dictionary with an unknown default")
    return call.items or {}


def _ordered_dict(call: _Call) -> dict[Any, Any]:
    if not call.nodes:
        return call.items or {}
    (pairs,) = call.nodes
    # Pairs are lists of two, whose first ones are checked as keys
    items = [tuple(pair.value) for pair in pairs.value]
    node = yaml.MappingNode("tag:yaml.org,2002:map", items)
    mapping: dict[Any, Any] = call.value(node)
    return mapping


def _deque(call: _Call) -> list[Any]:
    return call.items or []


_PATHS: dict[str, type[pathlib.PurePath]] = {
    "PosixPath": pathlib.PosixPath,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
    "WindowsPath": pathlib.PureWindowsPath,
}
_CALLS: dict[str, Callable[[_Call], Any]] = {
    "builtins.bytearray": _bytes,
    "builtins.frozenset": _frozenset,
    "collections.Counter": _counter,
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "collections.deque": _deque,
    "datetime.time": _time,
    "datetime.timedelta": _span,
    "datetime.timezone": _zone,
    "decimal.Decimal": _decimal,
    "fractions.Fraction": _fraction,
    "numpy.dtype": _type,
    # The module was renamed in NumPy 2, as that of paths in Python 3.13
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{
        f"{module}.{name}": _path(kind)
        for module in ("pathlib", "pathlib._local")
        for name, kind in _PATHS.items()
    },
}


def _constructor(decode: Callable[[_Call], Any]) -> Callable[[Any, yaml.Node], Any]:
    return lambda loader, node: decode(_Call(loader, node))


def _uuid(loader: Any, node: yaml.Node) -> uuid.UUID:
    state = loader.construct_mapping(node, deep=True)
    return uuid.UUID(int=state["int"])


CONSTRUCTORS: dict[str, Callable[[Any, yaml.Node], Any]] = {
    f"{_PYTHON}complex": _complex,
    f"{_PYTHON}object:uuid.UUID": _uuid,
    **{f"{_APPLY}{name}": _constructor(decode) for name, decode in _CALLS.items()},
}
r"""What makes a value of a node with one of the tags."""

TAGS = {*CONSTRUCTORS, _ARRAY, *_FACTORIES}
r"""All tags that a document may hold, some of them as an argument only."""

TYPES = frozenset(
    {
        Decimal,
        Fraction,
        complex,
        datetime.time,
        datetime.timedelta,
        datetime.timezone,
        uuid.UUID,
        *_PATHS.values(),
    }
)
r"""Types of values that are written with a tag."""


def represent(dumper: Any, value: Any) -> yaml.Node:
    r"""Node with a tag for a value, as earlier releases wrote it."""
    if isinstance(value, complex):
        return cast(yaml.Node, _Representer.represent_complex(dumper, value))
    if isinstance(value, pathlib.PurePath):
        name = f"{_APPLY}pathlib.{type(value).__name__}"
        return cast(yaml.Node, dumper.represent_sequence(name, list(value.parts)))
    return cast(yaml.Node, _Representer.represent_object(dumper, value))
