r"""YAML documents as data.

Headers, metadata, aliases and configuration are YAML.
All people who can write to a repository can write them.
Reading a document constructs only plain values:
those of ``yaml.SafeLoader``,
and values that earlier releases wrote with tags of Python,
if they are data, see ``python_tags``.
Size, depth and expansion are limited,
and all errors of a document raise the same typed error.

"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import cast

import yaml

from audmodel.core.errors import InvalidDataError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.yaml import checks
from audmodel.core.yaml import python_tags
from audmodel.core.yaml.checks import MAX_BYTES as MAX_BYTES
from audmodel.core.yaml.checks import TUPLE_TAG
from audmodel.core.yaml.checks import YAML_TAG
from audmodel.core.yaml.plain import Plain
from audmodel.core.yaml.plain import is_same
from audmodel.core.yaml.plain import is_simple


# Python writes numbers of up to 4300 digits
MAX_NUMBER = 4400
# A dictionary of fewer keys is fast with any keys
_FEW_KEYS = 1000

_FLOAT_TAG = f"{YAML_TAG}float"
_INT_TAG = f"{YAML_TAG}int"
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
        r"""Refuse keys with the same hash, which take quadratic time to insert."""
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
        # Python refuses to print very large ones: raise that error here
        str(number)
        return number


_Loader.add_constructor(TUPLE_TAG, _Loader.construct_tuple)
_Loader.add_constructor(_FLOAT_TAG, _Loader.construct_number)
_Loader.add_constructor(_INT_TAG, _Loader.construct_number)
for _tag, _constructor in python_tags.CONSTRUCTORS.items():
    _Loader.add_constructor(_tag, _constructor)


class _Dumper(yaml.SafeDumper):
    r"""Dumper that writes what audmodel 1.x writes for plain values."""


class _FastDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    r"""Dumper that is several times faster, and writes some texts in another way."""


def _represent_tuple(dumper: Any, data: tuple[Any, ...]) -> yaml.Node:
    return cast(yaml.Node, dumper.represent_sequence(TUPLE_TAG, data))


def _represent_set(dumper: Any, data: set[Any]) -> yaml.Node:
    # The order of a set differs from one process to the next
    items = sorted(data, key=lambda item: (type(item).__name__, repr(item)))
    return cast(
        yaml.Node, dumper.represent_mapping(f"{YAML_TAG}set", dict.fromkeys(items))
    )


for _class in (_Dumper, _FastDumper):
    _class.add_representer(tuple, _represent_tuple)
    _class.add_representer(set, _represent_set)
    for _type in python_tags.TYPES:
        _class.add_representer(_type, python_tags.represent)


class _Shown(_Dumper):
    r"""Dumper that quotes unprintable text, so that it can be escaped."""

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        if not _is_printable(scalar):
            # Only double quotes have escapes
            analysis.allow_flow_plain = analysis.allow_block_plain = False
            analysis.allow_single_quoted = analysis.allow_block = False
        return analysis


def _is_printable(text: str) -> bool:
    return text.replace("\n", "").isprintable()


def dump(data: Mapping[str, object], label: str, *, depth: int = 0) -> bytes:
    r"""Write a dictionary as YAML document.

    Args:
        data: plain values, arbitrarily nested;
            numbers of other libraries, e.g. ``numpy``,
            are written as Python's own
        label: name of the argument, for messages
        depth: levels that the document will have around ``data``

    Raises:
        InvalidDataError: if ``data`` is no dictionary,
            holds objects,
            or is larger or deeper than a document may be

    """
    return _write(data, label, depth)[0]


def stored_form(data: Mapping[str, object], label: str) -> dict[str, Any]:
    r"""Dictionary as it is read after it was written.

    Args:
        data: plain values, arbitrarily nested
        label: name of the argument, for messages

    Returns:
        dictionary of Python's own types

    Raises:
        InvalidDataError: if ``data`` cannot be written

    """
    return _write(data, label, 0)[1]


def _write(
    data: Mapping[str, object], label: str, depth: int
) -> tuple[bytes, dict[str, Any]]:
    r"""Content of a document, and the dictionary that is read from it."""
    if not isinstance(data, Mapping):
        raise InvalidDataError(
            f"'{label}' has to be a dictionary, not {type(data).__name__}."
        )
    try:
        plain = Plain(label).convert(data, label, depth)
        dumper: Any = _FastDumper if is_simple(plain) else _Dumper
        text = yaml.dump(plain, Dumper=dumper, sort_keys=False)
        content = text.encode("ascii")
        # Only documents that can be read again are written
        stored = load(content, label)
    except InvalidDataError:
        raise
    # PyYAML raises ValueError, e.g. for numbers with thousands of digits
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InvalidDataError(
            f"'{label}' cannot be stored: {_reason(error)}."
        ) from error
    if not is_same(plain, stored):
        raise InvalidDataError(
            f"'{label}' cannot be stored, since reading it gives other values."
        )
    return content, stored


def show(data: Mapping[str, object], *, ascii_only: bool = False) -> str:
    r"""Write a dictionary as YAML for people, with characters of any alphabet.

    Args:
        data: what was read from a document
        ascii_only: whether to write other characters as escapes

    Returns:
        text of a document with the same content.
        Characters that cannot be printed are in double quotes,
        where escapes of Python are those of YAML

    """
    text: str = yaml.dump(
        data, Dumper=_Shown, sort_keys=False, allow_unicode=not ascii_only
    )
    return text


@dataclass(frozen=True)
class Unreadable:
    r"""Placeholder for a value that is not plain data.

    Args:
        reason: why it cannot be read

    """

    reason: str


def load(content: bytes, source: str, *, optional: str | None = None) -> dict[str, Any]:
    r"""Read a YAML document that holds a dictionary.

    Args:
        content: content of the document
        source: where the document comes from, for messages
        optional: key whose value may be anything that is valid YAML.
            It is :class:`Unreadable` if it is not plain data

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
        checks.check_directives(content)
        checks.check_events(content, _Loader)
        loader = _Loader(content)
        try:
            node = loader.get_single_node()
            if node is None:
                return {}
            checks.check_expansion(node)
            apart = _take_out(node, optional)
            data = _construct(loader, node)
            if apart is not None and isinstance(data, dict):
                data[optional] = _construct_if_possible(loader, apart)
        finally:
            loader.dispose()
    # Converters of PyYAML raise all kinds of errors,
    # e.g. AttributeError, OverflowError, RecursionError
    except Exception as error:
        raise InvalidDocumentError(
            f"{source} cannot be read, "
            f"since it is not plain YAML data: {_reason(error)}."
        ) from error
    if data is None:
        return {}  # what audmodel 1.x writes for metadata that was not given
    if not isinstance(data, dict):
        raise InvalidDocumentError(
            f"{source} cannot be read: "
            f"it holds a {type(data).__name__} instead of a dictionary."
        )
    return cast(dict[str, Any], data)


def _take_out(root: yaml.Node, name: str | None) -> yaml.Node | None:
    r"""Remove a key from a dictionary, and give the node of its value."""
    if name is None or not isinstance(root, yaml.MappingNode):
        return None
    for index, (key, value) in enumerate(root.value):
        if isinstance(key, yaml.ScalarNode) and key.value == name:
            del root.value[index]
            return cast(yaml.Node, value)
    return None


def _construct(loader: Any, node: yaml.Node) -> Any:
    checks.check_tags(node)
    return loader.construct_document(node)


def _construct_if_possible(loader: Any, node: yaml.Node) -> Any:
    try:
        return _construct(loader, node)
    except Exception as error:  # noqa: BLE001 - converters raise anything, see above
        return Unreadable(_reason(error))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text[:300]
