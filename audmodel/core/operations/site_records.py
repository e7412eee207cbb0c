r"""Read what the pages of a catalogue show from a repository."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
from typing import Any

from audmodel.core import uid as ids
from audmodel.core.archive import format
from audmodel.core.archive.parts import MemberParts
from audmodel.core.archive.parts import find_member
from audmodel.core.archive.parts import has_parts
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.operations import catalogue
from audmodel.core.operations.archives import read_directory
from audmodel.core.operations.opening import README
from audmodel.core.operations.options import LoadOptions
from audmodel.core.repository.alias_record import AliasMove
from audmodel.core.repository.header import Header
from audmodel.core.repository.provenance import Provenance
from audmodel.core.repository.reading import read_records
from audmodel.core.repository.registry import Registry
from audmodel.core.site.content import Alias
from audmodel.core.site.content import File
from audmodel.core.site.content import Model
from audmodel.core.site.content import Move
from audmodel.core.site.content import Summary
from audmodel.core.site.content import Version
from audmodel.core.uid import ModelId


# Versions of a model that its page shows side by side
MAX_VERSIONS = 12
# Characters of a card take four bytes at most
_MAX_CARD = 400_000


@dataclass(frozen=True)
class Records:
    r"""Records of one model, all of its versions.

    Args:
        summary: what the list shows
        models: IDs, the latest version first
        headers: headers
        stored: their stored form
        meta: metadata and its stored form, or what is wrong with it
        aliases: aliases of the versions
        digest: digest of all this

    """

    summary: Summary
    models: Sequence[ModelId]
    headers: Mapping[ModelId, Header]
    stored: Mapping[ModelId, bytes]
    meta: Mapping[ModelId, tuple[dict[str, Any], bytes] | str | None]
    aliases: Sequence[Alias]
    digest: str


@dataclass(frozen=True)
class Content:
    r"""What a page shows.

    Args:
        model: the model
        is_final: whether all of it could be read

    """

    model: Model
    is_final: bool


def read(
    registry: Registry, cache_root: str, options: LoadOptions
) -> tuple[list[Records], list[str]]:
    r"""Read the records of all models.

    Args:
        registry: where they are
        cache_root: cache folder, whose headers are not read again
        options: number of workers and progress

    Returns:
        models in the order of subgroup, name and parameters,
        and what could not be read

    Raises:
        RepositoryError: if the repository cannot be read

    """
    found = catalogue.read(
        registry,
        catalogue.Filter(),
        cache_root,
        num_workers=options.num_workers,
        start_progress=options.start_progress,
        targets={},  # they are read with their history
    )
    problems = found.problems
    shown = {str(model) for model in found.headers}
    aliases = _aliases(registry, shown, problems, options.num_workers)
    meta = dict(
        read_records(registry.meta, found.headers, num_workers=options.num_workers)
    )
    problems += [record for record in meta.values() if isinstance(record, str)]
    groups: dict[str, list[ModelId]] = {}
    for model in found.headers:
        groups.setdefault(model.short, []).append(model)
    records = [
        _records(_latest_first(models), found, meta, aliases)
        for models in groups.values()
    ]

    def position(item: Records) -> tuple[str, str, str]:
        return item.summary.subgroup, item.summary.name, item.summary.short

    return sorted(records, key=position), problems


def _latest_first(models: list[ModelId]) -> list[ModelId]:
    by_version = {model.version: model for model in models}
    return [by_version[version] for version in reversed(ids.sort_versions(by_version))]


def _records(
    models: Sequence[ModelId],
    found: catalogue.Catalogue,
    meta: Mapping[ModelId, tuple[dict[str, Any], bytes] | str | None],
    aliases: Mapping[str, list[Alias]],
) -> Records:
    headers = {model: found.headers[model] for model in models}
    latest = headers[models[0]]
    own = [alias for model in models for alias in aliases.get(str(model), [])]
    summary = Summary(
        models[0].short,
        latest.name,
        latest.subgroup,
        latest.parameters,
        [model.version for model in models],
        [headers[model].author for model in models],
        str(latest.date),
        [alias.name for alias in own],
    )
    stored = {model: found.stored[model] for model in models}
    digest = hashlib.sha256()
    for model in models:
        digest.update(stored[model])
        record = meta.get(model)
        digest.update(record[1] if isinstance(record, tuple) else repr(record).encode())
        digest.update(b"\0")
    digest.update(repr(own).encode(errors="backslashreplace"))
    return Records(
        summary,
        models,
        headers,
        stored,
        {model: meta.get(model) for model in models},
        own,
        digest.hexdigest(),
    )


def _aliases(
    registry: Registry, shown: set[str], problems: list[str], num_workers: int
) -> dict[str, list[Alias]]:
    r"""Aliases of each model, with their history, by its ID."""

    def history(name: str) -> list[AliasMove] | None:
        try:
            return registry.alias_history(name)
        except InvalidDocumentError:
            # What it points to is known nevertheless, or this says why not
            target = registry.alias(name)
            return None if target is None else [AliasMove(str(target))]

    found: dict[str, list[Alias]] = {}
    names = registry.alias_names()
    for name, moves in read_records(history, names, num_workers=num_workers):
        if isinstance(moves, str):
            problems.append(moves)
        elif moves is not None:
            alias = Alias(name, [_move(move, shown) for move in moves])
            found.setdefault(alias.uid, []).append(alias)
    return found


def _move(move: AliasMove, shown: set[str]) -> Move:
    return Move(
        move.uid,
        move.previous or "",
        f"{move.date:%Y-%m-%d %H:%M}" if move.date else "",
        move.author or "",
        move.url or "",
        move.rollback,
        [uid for uid in (move.uid, move.previous) if uid in shown],
    )


def content(registry: Registry, records: Records) -> Content:
    r"""Read from archives what else a page shows.

    Args:
        registry: where they are
        records: records of the model

    Raises:
        RepositoryUnreachableError: if the repository does not respond

    """
    shown = records.models[:MAX_VERSIONS]
    archives = [_archive(registry, model, records.headers[model]) for model in shown]
    versions = [
        _version(records, model, archive)
        for model, archive in zip(shown, archives, strict=True)
    ]
    model = Model(records.summary, versions, records.aliases, archives[0].card)
    return Content(model, all(archive.is_final for archive in archives))


@dataclass(frozen=True)
class _Archive:
    r"""What a page shows of an archive.

    Args:
        size: its size in bytes, if it is known
        files: its files, ``None`` if they cannot be read
        card: text of the model card
        note: why something cannot be read
        is_final: whether it is of no use to try again

    """

    size: int | None = None
    files: Sequence[File] | None = None
    card: str = ""
    note: str = ""
    is_final: bool = True


def _archive(registry: Registry, model: ModelId, header: Header) -> _Archive:
    if not registry.backend.has_ranges:
        return _Archive(note="Files are not shown: the storage gives whole files only.")
    try:
        with registry.open_archive(model, header, "") as reader:
            if reader is None:
                return _Archive(note="Its archive is missing.", is_final=False)
            directory, _ = read_directory(reader, header)
            files = [
                File(member.name, member.size, member.crc)
                for member in directory.files()
            ]
            return _Archive(reader.size, files, _card(reader, directory))
    except RepositoryUnreachableError:
        raise
    except (ArchiveError, RepositoryError):
        return _Archive(note="Its archive cannot be read.", is_final=False)


def _card(reader: ObjectReader, directory: format.Directory) -> str:
    entry = find_member(directory, README)
    if entry is None or not has_parts(entry.member):
        return ""
    parts, data = MemberParts(reader, entry), bytearray()
    for number in range(len(parts)):
        data += parts.read(number)
        if len(data) > _MAX_CARD:
            break
    return data.decode(errors="replace")


def _version(records: Records, model: ModelId, archive: _Archive) -> Version:
    header, meta = records.headers[model], records.meta[model]
    notes = [archive.note] if archive.note else []
    if isinstance(meta, str):
        notes.append("Its metadata cannot be read.")
    return Version(
        str(model),
        model.version,
        header.author,
        str(header.date),
        header.archive.size if header.archive else archive.size,
        dict(_origin(header.provenance)),
        meta[0] if isinstance(meta, tuple) else {},
        archive.files,
        notes=notes,
    )


def _origin(provenance: Provenance) -> Iterator[tuple[str, str]]:
    if provenance.date:
        yield "time (UTC)", f"{provenance.date:%Y-%m-%d %H:%M}"
    yield "client", provenance.client or ""
    yield "commit", provenance.commit or ""
    yield "job", provenance.url or ""
