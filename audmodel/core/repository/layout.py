r"""Which record, archive or alias a path of a repository stands for.

The other direction, from a model to its paths, is in ``Registry``.

"""

from __future__ import annotations

from collections.abc import Iterator

from audmodel.core import uid as ids
from audmodel.core.errors import InvalidIdError
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId


_RECORDS = "/_uid/"
_ALIASES = "/_alias/"


def own_paths(paths: list[str]) -> list[str]:
    r"""Paths without those of other repositories in folders of this one."""
    others = {
        path[: path.index(folder) + 1]
        for path in paths
        for folder in (_RECORDS, _ALIASES)
        if path.find(folder) > 0
    }
    return [path for path in paths if not others.intersection(_folders(path))]


def _folders(path: str) -> Iterator[str]:
    r"""Folders that a path leads through, each with a slash at its end."""
    for position, letter in enumerate(path):
        if letter == "/":
            yield path[: position + 1]


def alias_of(path: str) -> str | None:
    r"""Alias that a record is of."""
    name = path.removeprefix(_ALIASES).split("/")[0]
    return name if path.startswith(_ALIASES) and ids.is_alias(name) else None


def model_of_archive(path: str) -> ModelId | None:
    r"""Model that an archive belongs to."""
    if path.startswith((_RECORDS, _ALIASES)) or path.count("/") < 4:
        return None
    short, version, name = path.split("/")[-3:]
    model = _model(short, version)
    return model if name == f"{model}.zip" else None


def model_of_record(path: str, kind: str) -> ModelId | None:
    r"""Model that a record belongs to."""
    if not path.startswith(_RECORDS) or path.count("/") != 4:
        return None
    short, version = path.split("/")[2:4]
    model = _model(short, version)
    return model if model and path == Registry.record_path(model, kind) else None


def model_of_list(path: str) -> ModelId | None:
    r"""Model that a list of aliases belongs to."""
    if not path.startswith(_RECORDS) or path.count("/") != 4:
        return None
    name, version = path.split("/")[2:4]
    model = _model(name.removesuffix(".aliases"), version)
    return model if model and path == Registry.list_path(model) else None


def _model(short: str, version: str) -> ModelId | None:
    try:
        model = ids.parse(f"{short}-{version}")
    except InvalidIdError:
        return None
    return model if model == ModelId(short, version) else None
