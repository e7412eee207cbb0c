r"""What the pages of a catalogue show: plain data, read from a repository before."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any


@dataclass(frozen=True)
class File:
    r"""File of a version.

    Args:
        path: path in the model
        size: size in bytes
        checksum: differs if the content does

    """

    path: str
    size: int
    checksum: int


@dataclass(frozen=True)
class Version:
    r"""Version of a model.

    Args:
        uid: model ID
        version: version
        author: who published it
        date: day on which it was published
        size: size of the archive in bytes, if it is known
        origin: where it comes from: texts by what they say
        meta: metadata
        files: files, ``None`` if they were not read
        signers: who signed it
        notes: what could not be read

    """

    uid: str
    version: str
    author: str
    date: str
    size: int | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[Any, Any] = field(default_factory=dict)
    files: Sequence[File] | None = None
    signers: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Move:
    r"""Move of an alias.

    Args:
        uid: model that it led to
        previous: model that it came from
        date: when, empty if it is not known
        author: who moved it
        url: page of the job that moved it
        is_rollback: whether it undid an earlier move
        shown: which of both models have a page

    """

    uid: str
    previous: str
    date: str
    author: str
    url: str
    is_rollback: bool
    shown: Sequence[str] = ()


@dataclass(frozen=True)
class Alias:
    r"""Alias of a model.

    Args:
        name: name of the alias
        moves: its moves, the last one leads to the model it points to

    """

    name: str
    moves: Sequence[Move]

    @property
    def uid(self) -> str:
        r"""Model that it points to."""
        return self.moves[-1].uid


@dataclass(frozen=True)
class Summary:
    r"""What the list of all models shows of one.

    Args:
        short: ID without version
        name: name
        subgroup: subgroup, may be empty
        parameters: parameters
        versions: versions, the latest one first
        authors: authors of the versions
        date: day on which the latest version was published
        aliases: names of aliases

    """

    short: str
    name: str
    subgroup: str
    parameters: Mapping[Any, Any]
    versions: Sequence[str]
    authors: Sequence[str]
    date: str
    aliases: Sequence[str]


@dataclass(frozen=True)
class Model:
    r"""What the page of a model shows.

    Args:
        summary: what the list shows
        versions: versions, the latest one first.
            Old ones are left out if there are many
        aliases: aliases
        card: text of its ``README.md``

    """

    summary: Summary
    versions: Sequence[Version]
    aliases: Sequence[Alias]
    card: str
