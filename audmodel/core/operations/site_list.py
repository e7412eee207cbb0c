r"""List of all models that a catalogue was built from, ``models.json``.

It is the last object that is written, so that it names only what is there::

    {
      "format": 1,
      "models": [{"uid": ..., "name": ..., ..., "header": the stored YAML}, ...],
      "aliases": {name: ID},
      "pages": {path: digest of what it was made from}
    }

"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
import datetime
import json
import math
import re
from typing import TYPE_CHECKING
from typing import Any

from audmodel.core.repository import layout
from audmodel.core.uid import ModelId


if TYPE_CHECKING:
    from audmodel.core.backend.base import ObjectBackend
    from audmodel.core.backend.objects import StoredObject
    from audmodel.core.operations.site_records import Records


NAME = "models.json"
# A model takes a kilobyte
MAX_BYTES = 1 << 30
_FORMAT = 1
# Names in the folder of a catalogue, and nowhere else
_PAGE = re.compile(r"(?:(?:assets|models)/)?\w[\w-]*(?:\.[a-z]+)+", re.A)


@dataclass(frozen=True)
class SiteList:
    r"""What a catalogue was built from.

    Args:
        pages: digest of what each page was made from, by its path
        headers: stored headers, by model ID

    """

    pages: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def dump(records: Iterable[Records], pages: Mapping[str, str]) -> bytes:
    r"""Stored form of a list.

    Args:
        records: all models
        pages: digest of what each page was made from

    """
    models: dict[ModelId, dict[str, Any]] = {}
    aliases: dict[str, str] = {}
    for item in records:
        aliases |= {alias.name: alias.uid for alias in item.aliases}
        for model in item.models:
            models[model] = _entry(item, model)
    lines = ",\n".join(map(_line, models.values()))
    rest = {
        "aliases": dict(sorted(aliases.items())),
        "pages": dict(sorted(pages.items())),
    }
    text = f'{{"format": {_FORMAT}, "models": [\n{lines}\n], {_line(rest)[1:]}\n'
    return text.encode("ascii")


def parse(data: bytes) -> SiteList | None:
    r"""Read a list, and trust nothing that it says.

    Args:
        data: stored form

    Returns:
        list, ``None`` if it is damaged, or of another format

    """
    try:
        content = json.loads(data)
        if content["format"] != _FORMAT:
            return None
        return SiteList(
            {
                path: str(value)
                for path, value in content["pages"].items()
                if _PAGE.fullmatch(path) and path != NAME
            },
            {str(item["uid"]): str(item["header"]) for item in content["models"]},
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None


def read(stored: StoredObject | None) -> SiteList | None:
    r"""List that a storage holds, ``None`` if it holds none that can be used."""
    if stored is None or stored.is_damaged:
        return None
    return parse(stored.data)


def known_headers(backend: ObjectBackend) -> dict[str, bytes]:
    r"""Stored headers in the list that a repository holds.

    Args:
        backend: connection to the repository

    Returns:
        headers by model ID, which need not be valid,
        none if there is no list

    Raises:
        RepositoryError: if the repository cannot be read

    """
    stored = backend.read_damaged(f"{layout.CATALOG}{NAME}", MAX_BYTES)
    known = read(stored)
    if known is None:
        return {}
    return {uid: text.encode(errors="replace") for uid, text in known.headers.items()}


def _entry(records: Records, model: ModelId) -> dict[str, Any]:
    header = records.headers[model]
    return {
        "uid": str(model),
        "name": header.name,
        "subgroup": header.subgroup,
        "version": header.version,
        "parameters": _plain(header.parameters),
        "author": header.author,
        "date": str(header.date),
        "aliases": [a.name for a in records.aliases if a.uid == str(model)],
        "header": records.stored[model].decode(errors="replace"),
    }


def _line(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _plain(value: Any) -> Any:
    r"""Value made of types that JSON has, others become texts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value if isinstance(value, str | int | float | None) else str(value)
