r"""The header of a model: what was published, and with which archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import datetime
import re
from typing import Any

from audmodel.core.errors import InvalidDocumentError
from audmodel.core.repository import layout
from audmodel.core.repository import provenance as provenance_module
from audmodel.core.repository.provenance import UNKNOWN
from audmodel.core.repository.provenance import Provenance
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


_PARAMETERS = "parameters"
_KEYS = ("author", "date", "name", _PARAMETERS, "subgroup", "version")
_ARCHIVE = "archive"
_PROVENANCE = "provenance"
_DIGEST = re.compile(r"blake3:([0-9a-f]{64})")


@dataclass(frozen=True)
class ArchiveIdentity:
    r"""Size and digest, which identify an archive.

    Args:
        size: size in bytes
        digest: BLAKE3 digest of its directory,
            which holds the digests of everything else

    """

    size: int
    digest: bytes


@dataclass(frozen=True)
class Header:
    r"""Header of a model.

    Args:
        author: who published the model
        date: when it was published
        name: name of the model
        params: parameters of the model,
            or why they cannot be read
        subgroup: subgroup of the model, may be empty
        version: version of the model
        archive: identity of the archive,
            not known for models of earlier releases
        provenance: where the model comes from

    """

    author: str
    date: datetime.date | str
    name: str
    params: Mapping[str, Any] | document.Unreadable
    subgroup: str
    version: str
    archive: ArchiveIdentity | None
    provenance: Provenance = UNKNOWN

    @property
    def parameters(self) -> Mapping[str, Any]:
        r"""Parameters of the model.

        Raises:
            InvalidDocumentError: if they are not plain data

        """
        if isinstance(self.params, document.Unreadable):
            raise InvalidDocumentError(
                f"The parameters of the model {self.name!r} of version {self.version} "
                f"are not plain data and cannot be read: {self.params.reason}. "
                "Its files can be loaded, and its other properties can be read."
            )
        return self.params

    def public(self) -> dict[str, Any]:
        r"""Header as the user sees it."""
        header = {key: getattr(self, key) for key in _KEYS}
        header[_PARAMETERS] = dict(self.parameters)
        return header

    def dump(self, label: str = "header") -> bytes:
        r"""Header as it is stored.

        Args:
            label: what is said to be wrong if it cannot be stored

        """
        stored = self.public()
        if self.archive is not None:
            stored[_ARCHIVE] = {
                "digest": f"blake3:{self.archive.digest.hex()}",
                "size": self.archive.size,
            }
        if provenance := provenance_module.stored(self.provenance):
            stored[_PROVENANCE] = provenance
        return document.dump(stored, label)

    @property
    def location(self) -> str:
        r"""Folder of the archives of the model, relative to the repository."""
        return layout.location(self.name, self.subgroup)


def parse(content: bytes, model: ModelId, source: str) -> Header:
    r"""Read a header, and trust nothing that it says.

    Args:
        content: content of the stored header
        model: ID of the model that it is the header of
        source: where it comes from, for messages

    Raises:
        InvalidDocumentError: if it is not the header of this model

    """
    data = document.load(content, source, optional=_PARAMETERS)
    for key in _KEYS:
        if key not in data:
            raise InvalidDocumentError(f"{source} lacks the key '{key}'.")
    for key in ("name", "version"):
        if not isinstance(data[key], str):
            raise InvalidDocumentError(f"'{key}' in {source} is not a string.")
    params = data[_PARAMETERS]
    if not isinstance(params, dict | document.Unreadable):
        raise InvalidDocumentError(f"'{_PARAMETERS}' in {source} is not a dictionary.")
    if data["version"] != model.version:
        raise InvalidDocumentError(
            f"{source} names the version {data['version'][:100]!r} "
            f"instead of {model.version!r}."
        )
    header = Header(
        str(data["author"]),
        data["date"] if isinstance(data["date"], datetime.date) else str(data["date"]),
        data["name"],
        params,
        "" if data["subgroup"] is None else str(data["subgroup"]),
        data["version"],
        _identity(data.get(_ARCHIVE), source),
        provenance_module.parse(data.get(_PROVENANCE)),
    )
    if not layout.is_location(header.location):
        raise InvalidDocumentError(
            f"{source} has a name and a subgroup that are not a valid path: "
            f"{header.location[:100]!r}."
        )
    return header


def _identity(value: object, source: str) -> ArchiveIdentity | None:
    if value is None:
        return None
    size = value.get("size") if isinstance(value, dict) else None
    digest = value.get("digest") if isinstance(value, dict) else None
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if not isinstance(size, int) or match is None:
        raise InvalidDocumentError(f"'{_ARCHIVE}' in {source} is not valid.")
    return ArchiveIdentity(size, bytes.fromhex(match[1]))
