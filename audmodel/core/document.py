r"""YAML documents as data.

Headers, metadata, aliases and configuration are YAML,
written by anybody who can write to a repository.
Reading one never constructs anything but plain values:
what ``yaml.SafeLoader`` knows,
and the tuples that earlier releases wrote.
Size, depth and expansion are limited,
and whatever is wrong with a document raises one typed error.

"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
import datetime
import itertools
import numbers
from typing import Any
from typing import cast

import yaml

from audmodel.errors import InvalidDataError
from audmodel.errors import InvalidDocumentError


MAX_BYTES = 4 * 1024 * 1024
MAX_EXPANSION = 16 * MAX_BYTES
MAX_DEPTH = 64
MAX_NODES = 200_000
# Python writes numbers of up to 4300 digits
MAX_NUMBER = 4400
# libyaml compares each of these directives with all before
MAX_TAG_DIRECTIVES = 1000
# A dictionary of fewer keys is fast whatever they are
_FEW_KEYS = 1000

_YAML_TAG = "tag:yaml.org,2002:"
_TUPLE_TAG = f"{_YAML_TAG}python/tuple"
_FLOAT_TAG = f"{_YAML_TAG}float"
_INT_TAG = f"{_YAML_TAG}int"
_TAGS = {
    _TUPLE_TAG,
    *(
        f"{_YAML_TAG}{name}"
        for name in (
            "binary bool float int map merge null omap pairs seq set str timestamp"
        ).split()
    ),
}


# The C classes are missing if PyYAML was built without libyaml
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    r"""Loader for plain values and tuples."""

    def construct_tuple(self, node: yaml.Node) -> tuple[Any, ...]:
        return tuple(self.construct_sequence(node, deep=True))

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        self.flatten_mapping(node)
        if len(node.value) > _FEW_KEYS:
            self._check_hashes([key for key, _ in node.value])
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def _check_hashes(self, keys: list[yaml.Node]) -> None:
        r"""Refuse what a dictionary would compare each with all others."""
        # Merged dictionaries may have the same keys
        different = {
            (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            for key in keys
        }
        hashes = {hash(self.construct_object(key, deep=True)) for key in keys}
        if len(different) - len(hashes) > _FEW_KEYS:
            raise yaml.YAMLError("many keys of a dictionary have the same hash")

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        # Conversion takes the square of the length
        if len(node.value) > MAX_NUMBER:
            raise yaml.YAMLError(f"a number has more than {MAX_NUMBER} characters")
        if node.tag == _FLOAT_TAG:
            return cast(float, self.construct_yaml_float(node))
        number = cast(int, self.construct_yaml_int(node))
        # Python refuses to write very large ones, wherever that may be
        str(number)
        return number


_Loader.add_constructor(_TUPLE_TAG, _Loader.construct_tuple)
_Loader.add_constructor(_FLOAT_TAG, _Loader.construct_number)
_Loader.add_constructor(_INT_TAG, _Loader.construct_number)


class _Dumper(yaml.SafeDumper):
    r"""Dumper that writes what audmodel 1.x writes for plain values."""

    def represent_tuple(self, data: tuple[Any, ...]) -> yaml.Node:
        return self.represent_sequence(_TUPLE_TAG, data)

    def represent_ordered_set(self, data: set[Any]) -> yaml.Node:
        # The order of a set differs from one process to the next
        items = sorted(data, key=lambda item: (type(item).__name__, repr(item)))
        return self.represent_mapping(f"{_YAML_TAG}set", dict.fromkeys(items))


_Dumper.add_representer(tuple, _Dumper.represent_tuple)
_Dumper.add_representer(set, _Dumper.represent_ordered_set)
_Dumper.add_multi_representer(dict, lambda dumper, data: dumper.represent_dict(data))


def dump(data: Mapping[str, object], label: str) -> bytes:
    r"""Write a dictionary as YAML document.

    Args:
        data: plain values, arbitrarily nested;
            numbers of other libraries, e.g. ``numpy``,
            are written as Python's own
        label: name of the argument, for messages

    Returns:
        content of the document

    Raises:
        InvalidDataError: if ``data`` is no dictionary,
            holds objects,
            or is larger than a document may be

    """
    if not isinstance(data, Mapping):
        raise InvalidDataError(
            f"'{label}' has to be a dictionary, not {type(data).__name__}."
        )
    try:
        plain = _plain(data, label, 0)
        text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False)
        content = text.encode("ascii")
        # Written is only what can be read again
        copy = load(content, label)
        same = yaml.dump(copy, Dumper=_Dumper, sort_keys=False) == text
    except InvalidDataError:
        raise
    # PyYAML raises ValueError, e.g. for numbers with thousands of digits
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InvalidDataError(f"'{label}' cannot be stored: {error}") from error
    if not same:
        raise InvalidDataError(
            f"'{label}' cannot be stored, since reading it gives other values."
        )
    return content


def show(data: Mapping[str, object], *, ascii_only: bool = False) -> str:
    r"""Write a dictionary as YAML for people, who read any alphabet.

    Args:
        data: what was read from a document
        ascii_only: whether to write other characters as escapes

    Returns:
        text of a document with the same content

    """
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=not ascii_only
    )
    return text


def _plain(value: Any, where: str, depth: int) -> Any:
    r"""Value with the same content made of Python's own types."""
    if depth > MAX_DEPTH:
        raise InvalidDataError(f"{where} is nested more than {MAX_DEPTH} times.")
    if value is None or type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, Mapping):
        return {
            _plain(key, where, depth + 1): _plain(item, f"{where}[{key!r}]", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item, where, depth + 1) for item in value]
        if isinstance(value, list | tuple):
            return items if isinstance(value, list) else tuple(items)
        return set(items)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise InvalidDataError(
        f"{where} is of type {type(value).__name__} and cannot be stored. "
        "Use strings, numbers, dates, and lists, tuples, sets, "
        "or dictionaries of them."
    )


_PLAIN_TYPES = {bool, int, float, str, bytes, datetime.date, datetime.datetime}


def load(content: bytes, source: str) -> dict[str, Any]:
    r"""Read a YAML document that holds a dictionary.

    Args:
        content: content of the document
        source: where the document comes from, for messages

    Returns:
        the dictionary, empty for an empty document

    Raises:
        InvalidDocumentError: if the document is not valid YAML,
            not a dictionary,
            holds anything but plain values,
            or is larger, deeper, or expands further than a document may

    """
    if len(content) > MAX_BYTES:
        raise InvalidDocumentError(
            f"{source} cannot be read: {len(content)} bytes are more than "
            f"the {MAX_BYTES} that a document may have."
        )
    try:
        _check_directives(content)
        _check_events(content)
        loader = _Loader(content)
        try:
            node = loader.get_single_node()
            if node is None:
                return {}
            _check_expansion(node)
            data = loader.construct_document(node)
        finally:
            loader.dispose()
    # PyYAML raises whatever its converters raise,
    # e.g. AttributeError, OverflowError, RecursionError
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidDocumentError(
            f"{source} cannot be read, since it is not plain YAML data: {reason[:300]}"
        ) from error
    if data is None:
        return {}  # what audmodel 1.x writes for metadata that was not given
    if not isinstance(data, dict):
        raise InvalidDocumentError(
            f"{source} cannot be read: "
            f"it holds a {type(data).__name__} instead of a dictionary."
        )
    return cast(dict[str, Any], data)


def _check_directives(content: bytes) -> None:
    r"""Refuse so many declarations of tags that nobody would live to see the end."""
    if content.count(b"%") <= MAX_TAG_DIRECTIVES:
        return
    has_mark = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if has_mark else "utf-8", "replace")
    lines = (line.lstrip("\ufeff") for line in text.splitlines())
    if sum(line.startswith("%TAG") for line in lines) > MAX_TAG_DIRECTIVES:
        raise yaml.YAMLError(f"more than {MAX_TAG_DIRECTIVES} tags are declared")


def _check_events(content: bytes) -> None:
    r"""Refuse foreign tags and great depth before anything is built."""
    depth = 0
    for number, event in enumerate(yaml.parse(content, Loader=_Loader)):
        if number > 2 * MAX_NODES:
            raise yaml.YAMLError(f"more than {MAX_NODES} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} times")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!") and tag not in _TAGS:
            raise yaml.YAMLError(f"tag {str(tag)[:100]!r} is not allowed")


def _check_expansion(root: yaml.Node) -> None:
    r"""Refuse references that expand to very much, or to themselves.

    A document may refer to the same value several times.
    The values count as often as they are referred to,
    since whoever walks through the data meets them as often.
    """
    sizes: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        key = id(node)
        if key in sizes:
            return sizes[key]
        if key in open_nodes:
            raise yaml.YAMLError("a value refers to itself")
        if isinstance(node, yaml.ScalarNode):
            return 1, len(node.value)
        open_nodes.add(key)
        items = node.value
        if isinstance(node, yaml.MappingNode):
            names: set[tuple[str, str]] = set()
            for name, _ in node.value:
                if isinstance(name, yaml.ScalarNode):
                    if (name.tag, name.value) in names:
                        raise yaml.YAMLError(f"key {name.value[:100]!r} stands twice")
                    names.add((name.tag, name.value))
            items = itertools.chain.from_iterable(node.value)
        values, length = 1, 0
        for item in items:
            more, longer = measure(item)
            values += more
            length += longer
        if values > MAX_NODES:
            raise yaml.YAMLError(f"references expand to more than {MAX_NODES} values")
        if length > MAX_EXPANSION:
            raise yaml.YAMLError(
                f"references expand to more than {MAX_EXPANSION} characters"
            )
        open_nodes.discard(key)
        sizes[key] = values, length
        return sizes[key]

    measure(root)
