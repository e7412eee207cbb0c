r"""Parameters and metadata that a user gives as files, and one by one.

A text that is valid JSON is read as JSON, and any other text as YAML.
YAML reads some numbers of JSON as text, e.g. ``1e-05``.
A model with such a parameter would have another ID
than the same model published in Python.

"""

from __future__ import annotations

from collections.abc import Iterator
import json
import re
import sys
from typing import Any
import warnings

from audmodel.errors import InvalidDocumentError
from audmodel.errors import InvalidInputError


TYPE_CHECKING = False
if TYPE_CHECKING:
    import yaml


# Numbers as JSON and Python write them
_NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|NaN|[-+]?Infinity", re.ASCII
)
# Values that YAML reads as times, octal numbers or booleans, to the surprise of users
_UNEXPECTED = re.compile(
    r"[-+]?\d+(:\d+)+(\.\d*)?|[-+]?0\d+|y|n|yes|no|on|off", re.ASCII | re.IGNORECASE
)


# An anchor, or the start of a block without its lines, at the start of a value
_LEFT_OUT = re.compile(r"\s*(&\S+|[|>][-+\d]*(?=\s*$))")


def read_values(items: list[str]) -> dict[str, Any]:
    r"""Values that a user gives as files, and one by one.

    Args:
        items: YAML or JSON files, ``'-'`` for stdin, or ``'KEY=VALUE'``;
            later ones override earlier ones

    Raises:
        InvalidInputError: if one is not plain data,
            or there is no such file
        OSError: if a file cannot be read

    """
    values: dict[str, Any] = {}
    for item in items:
        # A path like ./sigma=1/params.yaml stays one
        key, equals, _ = item.partition("=")
        if equals and "/" not in key:
            values.update([_read_pair(item)])
        else:
            values.update(_read_file(item))
    return values


def _read_pair(item: str) -> tuple[str, Any]:
    r"""One value with its name.

    Raises:
        InvalidInputError: if it is not of this form,
            the value is not plain data,
            or YAML would leave out a part of it

    """
    key, equals, text = item.partition("=")
    if not (key and equals):
        raise InvalidInputError(f"{item!r} has to be of the form KEY=VALUE.")
    try:
        return key, _read_json(text)
    except ValueError:
        pass
    if mark := _LEFT_OUT.match(text):
        raise _left_out(item, mark[1], "has a meaning of its own in YAML")
    content = f"value: {text}".encode(errors="replace")
    values = _read_yaml(content, f"The value of '{key}'")
    if set(values) != {"value"}:
        raise InvalidInputError(f"'{key}' has to have a single value.")
    if comment := _comment(content):
        raise _left_out(item, comment, "is a comment in YAML")
    _warn_about_text(content, {"value": key})
    if _UNEXPECTED.fullmatch(text) and not isinstance(values["value"], str):
        warnings.warn(
            f"'{text}' of '{key}' is read as {values['value']!r}. "
            f"Write '{key}=\"{text}\"' if you mean the text.",
            stacklevel=2,
        )
    return key, values["value"]


def _left_out(item: str, part: str, reason: str) -> InvalidInputError:
    key, _, text = item.partition("=")
    return InvalidInputError(
        f"'{part}' of '{key}' {reason}. "
        f"Put the value in quotes, like '{key}={json.dumps(text)}', "
        "if this belongs to the value, or remove it."
    )


def _read_file(path: str) -> dict[str, Any]:
    from audmodel.core.yaml import document

    if path == "-":
        content = sys.stdin.buffer.read(document.MAX_BYTES + 1)
    else:
        try:
            with open(path, "rb") as file:
                content = file.read(document.MAX_BYTES + 1)
        except FileNotFoundError as error:
            raise InvalidInputError(
                f"There is no file '{path}'. Write KEY=VALUE for one value, "
                "or the path of a YAML or JSON file for several."
            ) from error
    if len(content) <= document.MAX_BYTES:
        try:
            values = _read_json(content)
        except ValueError:
            pass
        else:
            if isinstance(values, dict):
                return values
    values = _read_yaml(content, "The input on stdin" if path == "-" else f"'{path}'")
    _warn_about_text(content, {})
    return values


def _read_json(text: str | bytes) -> Any:
    r"""Value of a JSON text, an error if YAML has to read the text."""
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("A key occurs twice.")
    return values


def _read_yaml(content: bytes, source: str) -> dict[str, Any]:
    from audmodel.core.yaml import document

    try:
        return document.load(content, source)
    except InvalidDocumentError as error:
        # A mistake of the user, nothing that is stored is damaged
        raise InvalidInputError(str(error)) from error


def _comment(content: bytes) -> str:
    r"""Text after the value of the only key of a document."""
    root = _compose(content)
    assert root is not None
    return content.decode()[root.value[0][1].end_mark.index :].strip()


def _warn_about_text(content: bytes, names: dict[str, str]) -> None:
    r"""Warn about numbers that YAML reads as text."""
    for key, text in _plain_text(_compose(content), ""):
        if _NUMBER.fullmatch(text):
            warnings.warn(
                f"'{text}' of '{names.get(key, key)}' is text, not a number. "
                "YAML writes numbers like 1.0e-5 or .nan. "
                "Put the value in quotes if you mean the text.",
                stacklevel=2,
            )


def _compose(content: bytes) -> yaml.Node | None:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.compose(content, Loader=loader)


def _plain_text(node: yaml.Node | None, key: str) -> Iterator[tuple[str, str]]:
    r"""Text without quotes, with the key that it belongs to."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        if node.tag == "tag:yaml.org,2002:str" and not node.style:
            yield key, node.value
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _plain_text(item, key)
    elif isinstance(node, yaml.MappingNode):
        for name, item in node.value:
            yield from _plain_text(item, str(name.value))
