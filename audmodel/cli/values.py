r"""Parameters and metadata that a user gives as files, and one by one."""

from __future__ import annotations

import sys
from typing import Any

from audmodel.errors import InvalidDocumentError
from audmodel.errors import InvalidInputError


def read_values(items: list[str]) -> dict[str, Any]:
    r"""Values that a user gives as files, and one by one.

    Args:
        items: YAML or JSON files, ``'-'`` for stdin, or ``'KEY=VALUE'``;
            later ones go before earlier ones

    Returns:
        values

    Raises:
        InvalidInputError: if one is not plain YAML data
        OSError: if a file cannot be read

    """
    values: dict[str, Any] = {}
    for item in items:
        # A path like ./sigma=1/params.yaml stays one
        key, equals, _ = item.partition("=")
        if equals and "/" not in key:
            values.update([read_pair(item)])
        else:
            values.update(_read_file(item))
    return values


def read_pair(item: str) -> tuple[str, Any]:
    r"""One value with its name.

    Args:
        item: ``'KEY=VALUE'``

    Returns:
        name and value

    Raises:
        InvalidInputError: if it is not of this form,
            or the value is not plain YAML data

    """
    key, equals, text = item.partition("=")
    if not (key and equals):
        raise InvalidInputError(f"{item!r} has to be of the form KEY=VALUE.")
    values = _parse(f"value: {text}".encode(errors="replace"), f"The value of '{key}'")
    if set(values) != {"value"}:
        raise InvalidInputError(f"The value of '{key}' has to be a single one.")
    return key, values["value"]


def _read_file(path: str) -> dict[str, Any]:
    from audmodel.core import document

    if path == "-":
        content = sys.stdin.buffer.read(document.MAX_BYTES + 1)
    else:
        with open(path, "rb") as file:
            content = file.read(document.MAX_BYTES + 1)
    return _parse(content, "What stdin gives" if path == "-" else f"'{path}'")


def _parse(content: bytes, source: str) -> dict[str, Any]:
    from audmodel.core import document

    try:
        return document.load(content, source)
    except InvalidDocumentError as error:
        # A mistake of the user, nothing that is stored is damaged
        raise InvalidInputError(str(error)) from error
