r"""Paths in a repository: of archives and records, and what is at a path.

::

    /<subgroup>/<name>/<short id>/<version>/<short id>-<version>.zip
    /_uid/<short id>/<version>/<short id>-<version>.header.yaml
    /_uid/<short id>/<version>/<short id>-<version>.meta.yaml
    /_uid/<short id>/<version>/<short id>-<version>.claim.yaml
    /_uid/<short id>/<version>/<short id>-<version>.<digest>.sig
    /_uid/<short id>.aliases/<version>/<short id>.aliases-<version>.yaml
    /_alias/<alias>/1.0.0/<alias>-1.0.0.alias.yaml
    /_catalog/               pages for people, and a list of all models

"""

from __future__ import annotations

from collections.abc import Iterator
import re

from audmodel.core import uid as ids
from audmodel.core.errors import InvalidInputError
from audmodel.core.uid import ModelId


# First folders, which do not hold archives
RECORDS = "/_uid/"
ALIASES = "/_alias/"
CATALOG = "/_catalog/"
# One part of a path on a backend, compare ``audbackend``'s rule for paths
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,200}", re.A)
# Object storages allow 1,024 characters for everything
_MAX_LOCATION = 700
_DIGEST = re.compile(r"[0-9a-f]{32}", re.A)
_LOCATION = re.compile(r"[A-Za-z0-9/._-]{1,1024}", re.A)

# ------------------------------------------------------------ to a path


def location(name: str, subgroup: str) -> str:
    r"""Folder for the archives of a model, without leading or trailing slash."""
    parts = f"{subgroup.replace('.', '/')}/{name}".split("/")
    return "/".join(part for part in parts if part)


def check_location(name: str, subgroup: str) -> None:
    r"""Raise an error if name and subgroup do not make a path on a backend.

    Raises:
        TypeError: if an argument is not a string
        InvalidInputError: if an argument is not allowed,
            or the path would be in a folder reserved for other records

    """
    _check_path_part("name", name)
    if subgroup:
        _check_path_part("subgroup", subgroup)
    path = location(name, subgroup)
    if len(path) > _MAX_LOCATION:
        raise InvalidInputError(
            f"Name and subgroup have {len(path)} characters together, "
            f"allowed are {_MAX_LOCATION}."
        )
    first = path.split("/")[0]
    if f"/{first}/" in (ALIASES, CATALOG, RECORDS):
        label = "subgroup" if subgroup else "name"
        raise InvalidInputError(
            f"It is not allowed to set {label} to '{subgroup or name}', "
            f"since '{first}' is reserved for records of the repository."
        )


def is_location(path: str) -> bool:
    r"""Whether a path is a folder that earlier releases may have published to."""
    return _LOCATION.fullmatch(path) is not None and all(
        part.strip(".") != "" for part in path.split("/")
    )


def _check_path_part(label: str, value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"'{label}' has to be a string, not {type(value).__name__}.")
    separators = "[./]" if label == "subgroup" else "/"
    for part in re.split(separators, value):
        if not _SEGMENT.fullmatch(part) or part.strip(".") == "":
            raise InvalidInputError(
                f"{value[:150]!r} is not allowed as {label} of a model. "
                "It has to be made of letters, digits, '.', '_', or '-', "
                "with something else than dots in each part of the path."
            )


def archive_path(model: ModelId, location: str) -> str:
    r"""Path of the archive of a model."""
    return f"/{location}/{model.short}/{model.version}/{model}.zip"


def records_folder(short: str) -> str:
    r"""Folder for the records of all versions of a model."""
    return f"{RECORDS}{short}/"


def record_path(model: ModelId, kind: str) -> str:
    r"""Path of the header, metadata or claim of a model."""
    return f"{version_folder(model)}{model}.{kind}.yaml"


def version_folder(model: ModelId) -> str:
    r"""Folder for the records of one version of a model."""
    return f"{records_folder(model.short)}{model.version}/"


def signature_path(model: ModelId, digest: str) -> str:
    r"""Path of a signature of a model, whose content has a digest."""
    return f"{version_folder(model)}{model}.{digest}.sig"


def list_path(model: ModelId) -> str:
    r"""Path of the list of aliases of a model."""
    name = f"{model.short}.aliases"
    return f"{records_folder(name)}{model.version}/{name}-{model.version}.yaml"


def alias_path(name: str) -> str:
    r"""Path of the record of an alias."""
    return f"{ALIASES}{name}/1.0.0/{name}-1.0.0.alias.yaml"


# ------------------------------------------------------------ from a path


def own_paths(paths: list[str]) -> list[str]:
    r"""Paths without those of other repositories in folders of this one."""
    others = {
        path[: path.index(folder) + 1]
        for path in paths
        for folder in (RECORDS, ALIASES)
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
    name = path.removeprefix(ALIASES).split("/")[0]
    return name if path.startswith(ALIASES) and ids.is_alias(name) else None


def model_of_archive(path: str) -> ModelId | None:
    r"""Model that an archive belongs to."""
    if path.startswith((RECORDS, ALIASES)) or path.count("/") < 4:
        return None
    short, version, name = path.split("/")[-3:]
    model = _model(short, version)
    return model if name == f"{model}.zip" else None


def _parts(path: str) -> list[str]:
    r"""Folders and name of a record, empty if it is none of a model."""
    is_record = path.startswith(RECORDS) and path.count("/") == 4
    return path.split("/")[2:] if is_record else ["", "", ""]


def model_of_record(path: str, kind: str) -> ModelId | None:
    r"""Model that a record belongs to."""
    short, version, _ = _parts(path)
    model = _model(short, version)
    return model if model and path == record_path(model, kind) else None


def model_of_signature(path: str) -> ModelId | None:
    r"""Model that a signature belongs to."""
    short, version, name = _parts(path)
    model = _model(short, version)
    digest = name.removeprefix(f"{model}.").removesuffix(".sig")
    if model is None or not _DIGEST.fullmatch(digest):
        return None
    return model if path == signature_path(model, digest) else None


def model_of_list(path: str) -> ModelId | None:
    r"""Model that a list of aliases belongs to."""
    folder, version, _ = _parts(path)
    model = _model(folder.removesuffix(".aliases"), version)
    return model if model and path == list_path(model) else None


def is_changeable(path: str) -> bool:
    r"""Whether a record may change: an alias, or metadata."""
    alias = alias_of(path)
    if alias is not None:
        return path == alias_path(alias)
    return model_of_record(path, "meta") is not None


def _model(short: str, version: str) -> ModelId | None:
    if ids.is_short(short) and ids.is_version(version):
        return ModelId(short, version)
    return None
