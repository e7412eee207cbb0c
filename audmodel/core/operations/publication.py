r"""What is to be published: arguments and folder, checked before anything is stored."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import datetime
import os
import sys
from typing import TYPE_CHECKING
from typing import Literal
from typing import TypeAlias
from typing import get_args

from audmodel.core import uid as ids
from audmodel.core.archive.input import InputFile
from audmodel.core.errors import ConfigurationError
from audmodel.core.errors import InvalidFolderError
from audmodel.core.errors import InvalidInputError
from audmodel.core.home import expand_home
from audmodel.core.operations import authorship
from audmodel.core.operations import folder
from audmodel.core.operations.exclusion import check_exclude
from audmodel.core.operations.folder import ModelFolder
from audmodel.core.operations.results import SuspiciousFile
from audmodel.core.operations.source import check as check_source
from audmodel.core.operations.suspicious import find as find_suspicious
from audmodel.core.operations.suspicious import message
from audmodel.core.repository import layout
from audmodel.core.repository.config import config
from audmodel.core.repository.header import Header
from audmodel.core.repository.provenance import Provenance
from audmodel.core.repository.repository import Repository
from audmodel.core.repository.repository import check_type
from audmodel.core.uid import ModelId
from audmodel.core.uid import ShortId
from audmodel.core.yaml import document


if TYPE_CHECKING:
    from audmodel.core.signing.keys import SigningKey


# What to do about files that are seldom meant to be published
Suspicious: TypeAlias = Literal["warn", "refuse", "allow"]


@dataclass(frozen=True)
class Publication:
    r"""A model to publish.

    Args:
        repository: where to publish
        model: ID of the model
        header: header, without the identity of the archive
        meta: metadata in its stored form
        folder: folder of the model
        suspicious: what in it is seldom meant to be published
        alias: alias of the model, if it gets one
        compression: compression level
        tmp_root: folder for temporary files
        num_workers: number of threads
        repair: whether to store only the archive of an existing model
        base: model whose archive may have parts that are the same,
            or short ID of which the newest version counts
        exist_ok: whether the model may exist with the same files
        key: key that signs the model

    """

    repository: Repository
    model: ModelId
    header: Header
    meta: bytes
    folder: ModelFolder
    suspicious: Sequence[SuspiciousFile]
    alias: str | None
    compression: int
    tmp_root: str | None
    num_workers: int
    repair: bool
    base: ModelId | ShortId | None
    exist_ok: bool
    key: SigningKey | None = None

    @property
    def files(self) -> Sequence[InputFile]:
        r"""Files of the folder."""
        return self.folder.files

    @property
    def size(self) -> int:
        r"""Bytes of all files."""
        return sum(file.size for file in self.files)


def prepare(
    root: str,
    name: str,
    params: Mapping[str, object],
    version: str,
    *,
    repository: Repository | None,
    alias: str | None,
    author: str | None,
    compression: int,
    date: datetime.date | str | None,
    meta: Mapping[str, object] | None,
    subgroup: str | None,
    tmp_root: str | None = None,
    num_workers: int = 1,
    repair: bool = False,
    base: ModelId | ShortId | Literal["newest"] | None = None,
    exist_ok: bool = False,
    exclude: str | Iterable[str] | None = None,
    suspicious: Suspicious = "warn",
    source: Mapping[str, str] | None = None,
    sign: SigningKey | None = None,
) -> Publication:
    r"""Check everything that can be checked before something is stored.

    The arguments are those of :func:`audmodel.publish`.

    Returns:
        what is to be published, and where

    Raises:
        FileNotFoundError: if ``root`` is not a folder
        TypeError: if an argument is of the wrong type
        ConfigurationError: if no repository is configured
        InvalidDataError: if something cannot be stored
        InvalidFolderError: if the folder cannot be published
        InvalidInputError: if another argument is not valid

    """
    _check_compression(compression)
    if repair and exist_ok:
        raise InvalidInputError(
            "'repair' stores the archive of a model that exists. "
            "Use either 'repair' or 'exist_ok'."
        )
    if repair and sign is not None:
        raise InvalidInputError(
            "'repair' does not change the header, and signs nothing. "
            "Use audmodel.sign() for a model that exists."
        )
    origin = check_source(source)
    author = authorship.author(author)
    date = _date(date)
    exclude = check_exclude(exclude)
    _check_suspicious(suspicious)
    ids.check_version(version)
    layout.check_location(name, subgroup or "")
    if alias:
        ids.check_alias(alias)

    meta_content = document.dump(meta if meta is not None else {}, "meta")
    document.dump(params, "params", depth=1)
    _check_ordered(params)
    model = ModelId(ids.short_id(name, params, subgroup), version)
    header = Header(
        author,
        date,
        name,
        params,
        subgroup or "",
        version,
        None,
        # The storage may have another clock
        Provenance(datetime.datetime.now(datetime.UTC), _client(), *origin),
    )
    # Only the parameters may be too large
    header.dump("params")
    scanned = folder.scan(root, exclude)
    found = [] if suspicious == "allow" else find_suspicious(scanned.files)
    if found and suspicious == "refuse":
        raise InvalidFolderError(
            f"{message(scanned.root, found)} Nothing was published."
        )
    return Publication(
        _repository(repository),
        model,
        header,
        meta_content,
        scanned,
        found,
        alias or None,
        compression,
        _make_tmp_root(tmp_root) if tmp_root else None,
        num_workers,
        repair,
        ShortId(model.short) if base == "newest" else base,
        exist_ok,
        sign,
    )


def _check_compression(compression: object) -> None:
    if isinstance(compression, bool) or not isinstance(compression, int):
        raise TypeError(f"'compression' has to be an integer, not {compression!r}.")
    if not 0 <= compression <= 9:
        raise InvalidInputError(
            f"'compression' has to be between 0 and 9, not {compression}."
        )


def _check_suspicious(suspicious: object) -> None:
    if suspicious not in get_args(Suspicious):
        raise InvalidInputError(
            f"'suspicious' has to be 'warn', 'refuse' or 'allow', not {suspicious!r}."
        )


def _client() -> str:
    r"""This program and its version."""
    return f"audmodel {sys.modules['audmodel'].__version__}"


def _date(date: object) -> datetime.date:
    r"""Date that the user gave, or today."""
    if date is None or date == "":
        return datetime.date.today()
    if isinstance(date, datetime.datetime):
        return date.date()
    if isinstance(date, datetime.date):
        return date
    if not isinstance(date, str):
        raise TypeError(f"'date' has to be a date, not {date!r}.")
    try:
        return datetime.date.fromisoformat(date)
    except ValueError:
        raise InvalidInputError(
            f"'date' has to be a date like '2026-01-31', not {date[:50]!r}."
        ) from None


def _check_ordered(params: Mapping[str, object]) -> None:
    r"""Raise an error if the model ID would differ between processes."""
    values: list[object] = [params]
    while values:
        value = values.pop()
        if isinstance(value, set | frozenset):
            raise InvalidInputError(
                "'params' must not hold sets: their order, and so the model ID, "
                "differs between processes. Use sorted lists."
            )
        if isinstance(value, Mapping):
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value


def _repository(repository: Repository | None) -> Repository:
    r"""Repository to publish to."""
    if repository is None:
        if not config.REPOSITORIES:
            raise ConfigurationError(
                "No repository is configured to publish to. "
                "Give one as 'repository', or list one in ~/.config/audmodel.yaml."
            )
        repository = config.REPOSITORIES[0]
    return check_type(repository)


def _make_tmp_root(folder: str) -> str:
    r"""Make the folder for temporary files."""
    folder = expand_home(folder)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"The folder 'tmp_root' cannot be created: '{folder}': {error.strerror}."
        ) from error
    return folder
