r"""Compare the records and archives of a repository with each other.

One listing tells which archive, metadata, and list of aliases is missing,
and, on most storages, how large each archive is.
Headers and aliases are read.
Lists of aliases are a shortcut to what the aliases themselves say,
so they can be rebuilt.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
import logging
from typing import TypeVar

from audmodel.core.errors import InvalidDocumentError
from audmodel.core.progress.counters import StartProgress
from audmodel.core.repository import layout
from audmodel.core.repository.header import Header
from audmodel.core.repository.reading import read_records
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId


logger = logging.getLogger("audmodel")

Item = TypeVar("Item")
Record = TypeVar("Record")


@dataclass(frozen=True)
class Finding:
    r"""An object of a repository that is missing or wrong.

    Args:
        path: path of the object in the repository that is missing or wrong
        kind: ``'header'``, ``'metadata'`` or ``'alias'``
            for a record that cannot be read,
            ``'archive'`` for one of another size than its header says,
            ``'missing archive'``, ``'missing metadata'``,
            ``'missing model'`` for an alias whose model does not exist,
            or ``'list of aliases'``,
            which does not agree with the aliases
        uid: ID of the model, if it is known
        details: what was found, and what to do
        repaired: whether it was repaired

    """

    __module__ = "audmodel"

    path: str
    kind: str
    uid: str | None
    details: str
    repaired: bool = False

    def __str__(self) -> str:
        state = " Repaired." if self.repaired else ""
        return f"{self.path}: {self.details}{state}"


def find(
    registry: Registry,
    *,
    repair: bool,
    num_workers: int,
    start_progress: StartProgress,
) -> list[Finding]:
    r"""Find objects that are missing or wrong.

    Args:
        registry: where to look
        repair: whether to rebuild lists of aliases
        num_workers: number of records that are read at the same time
        start_progress: called with the number of records,
            gives a function that is called with the number of those that were read

    Returns:
        findings, by path

    Raises:
        RepositoryError: if the repository cannot be listed, or changed

    """
    audit = _Audit(registry, num_workers, start_progress)
    findings = [*audit.models(), *audit.aliases(repair=repair)]
    return sorted(findings, key=lambda finding: finding.path)


class _Audit:
    r"""Looks at a repository once."""

    def __init__(
        self, registry: Registry, num_workers: int, start_progress: StartProgress
    ) -> None:
        self._registry = registry
        self._num_workers = num_workers
        self._sizes = registry.backend.object_sizes("/")
        paths = layout.own_paths(list(self._sizes))
        self._published = _models(paths, lambda p: layout.model_of_record(p, "header"))
        self._described = _models(paths, lambda p: layout.model_of_record(p, "meta"))
        self._lists = _models(paths, layout.model_of_list)
        self._names = sorted({name for p in paths if (name := layout.alias_of(p))})
        records = (
            self._published,
            self._published & self._described,
            self._names,
            self._lists,
        )
        self._progress = start_progress(sum(map(len, records)))

    def models(self) -> Iterator[Finding]:
        r"""Headers and metadata that cannot be read, archives that are not theirs."""
        for model, header in self._read(self._header, self._published):
            if isinstance(header, str):
                yield Finding(
                    layout.record_path(model, "header"),
                    "header",
                    str(model),
                    f"{header} The model counts as a version, and cannot be loaded. "
                    "Restore the header from a backup, "
                    "or delete the model with audmodel.delete().",
                )
            elif header is not None:
                yield from self._archive(model, header)
        described = self._published & self._described
        for model, problem in self._read(self._meta, described):
            if isinstance(problem, str):
                yield Finding(
                    layout.record_path(model, "meta"),
                    "metadata",
                    str(model),
                    f"{problem} Replace it with audmodel.update_meta(…, replace=True).",
                )
        for model in self._published - self._described:
            yield Finding(
                layout.record_path(model, "meta"),
                "missing metadata",
                str(model),
                "The metadata is missing, and counts as empty. "
                "Restore it from a backup, or set it with audmodel.update_meta().",
            )

    def _archive(self, model: ModelId, header: Header) -> Iterator[Finding]:
        path = layout.archive_path(model, header.location)
        if path not in self._sizes:
            kind, problem = "missing archive", "is missing"
        elif wrong := self._wrong_size(path, header):
            kind, problem = "archive", wrong
        else:
            return
        yield Finding(
            path,
            kind,
            str(model),
            f"The archive of the model {problem}. Restore it from a backup, "
            "or publish the same folder again with 'repair'.",
        )

    def _wrong_size(self, path: str, header: Header) -> str | None:
        r"""What is wrong with the size of an archive."""
        size = self._sizes[path]
        if size is None or header.archive is None or size == header.archive.size:
            return None
        # It may have been published anew since it was listed
        with self._registry.backend.open_object(path) as reader:
            if reader is None or reader.size == header.archive.size:
                return None
            return f"has {reader.size} bytes, and not {header.archive.size}"

    def aliases(self, *, repair: bool) -> Iterator[Finding]:
        r"""Aliases of no model, and lists that do not agree with aliases."""
        targets: dict[str, ModelId] = {}
        unknown = set()
        for name, target in self._read(self._registry.alias, set(self._names)):
            path = layout.alias_path(name)
            if isinstance(target, str):
                unknown.add(name)
                yield Finding(
                    path,
                    "alias",
                    None,
                    f"{target} Set the alias again with audmodel.set_alias(), "
                    "or delete it with audmodel.delete_alias().",
                )
            elif target is not None:
                targets[name] = target
                if target not in self._published:
                    yield Finding(
                        path,
                        "missing model",
                        str(target),
                        f"The alias '{name}' points to the model '{target}', "
                        "which does not exist. "
                        "Let it point to another one with audmodel.set_alias(), "
                        "or delete it with audmodel.delete_alias().",
                    )
        yield from self._alias_lists(targets, unknown, repair)

    def _alias_lists(
        self, targets: dict[str, ModelId], unknown: set[str], repair: bool
    ) -> Iterator[Finding]:
        expected: dict[ModelId, set[str]] = {model: set() for model in self._lists}
        for name, target in targets.items():
            expected.setdefault(target, set()).add(name)
        listed: dict[ModelId, list[str] | str | None] = dict(
            self._read(self._registry.listed_aliases, self._lists)
        )
        for model, names in expected.items():
            found = listed.get(model) or []
            wrong: set[str] = set()
            if isinstance(found, str):
                details = found
            else:
                wrong = names ^ (set(found) - unknown)
                if not wrong:
                    continue
                details = _difference(model, wrong & names, wrong - names)
            if repair:
                self._registry.settle_list(model, sorted(wrong))
                logger.info(
                    "List of aliases of '%s' in %s rebuilt.",
                    model,
                    self._registry.repository,
                )
            yield Finding(
                layout.list_path(model),
                "list of aliases",
                str(model),
                details,
                repaired=repair,
            )

    def _header(self, model: ModelId) -> Header | None:
        found = self._registry.header(model)
        if found is not None:
            return found[0]
        if model.version in self._registry.versions(model.short):
            raise InvalidDocumentError(
                f"The header of model {model} is listed, but does not exist."
            )
        return None  # it was removed in the meantime

    def _meta(self, model: ModelId) -> None:
        self._registry.meta(model)

    def _read(
        self, read: Callable[[Item], Record], items: set[Item]
    ) -> list[tuple[Item, Record | str]]:
        r"""Records, or what is wrong with them."""

        def counted(item: Item) -> Record:
            self._progress(1)
            return read(item)

        order = sorted(items, key=str)
        return read_records(counted, order, num_workers=self._num_workers)


def _models(
    paths: list[str], model_of: Callable[[str], ModelId | None]
) -> set[ModelId]:
    return {model for path in paths if (model := model_of(path))}


def _difference(model: ModelId, lacks: set[str], stale: set[str]) -> str:
    parts = [f"The list of aliases of '{model}' does not agree with the aliases."]
    if lacks:
        parts.append(f"It lacks {_quoted(lacks)}.")
    if stale:
        parts.append(f"It names {_quoted(stale)}, which do not point to it.")
    return " ".join(parts)


def _quoted(names: set[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
