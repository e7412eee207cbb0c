r"""All models of a repository."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
from dataclasses import dataclass
from dataclasses import field
from fnmatch import fnmatchcase
import logging
from typing import Any
from typing import TypeVar

from audmodel.core import uid as ids
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.progress.counters import StartProgress
from audmodel.core.repository import header as header_module
from audmodel.core.repository.header import Header
from audmodel.core.repository.reading import read_records
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


logger = logging.getLogger("audmodel")

Item = TypeVar("Item")
Record = TypeVar("Record")


@dataclass(frozen=True)
class Filter:
    r"""Which models are wanted.

    Args:
        name: pattern of the name
        subgroup: pattern of the subgroup
        params: parameters and their values, in their stored form
        alias: pattern of an alias
        author: pattern of the author

    """

    name: str | None = None
    subgroup: str | None = None
    params: Mapping[str, Any] | None = None
    alias: str | None = None
    author: str | None = None

    def matches(self, header: Header) -> bool:
        r"""Whether a header is of a wanted model."""
        return (
            _matches(header.name, self.name)
            and _matches(header.subgroup, self.subgroup)
            and _matches(header.author, self.author)
            and _includes(header.parameters, self.params or {})
        )

    def matches_alias(self, names: list[str]) -> bool:
        r"""Whether one of the aliases of a model is of a wanted one."""
        return self.alias is None or any(_matches(name, self.alias) for name in names)


def _matches(value: str, pattern: str | None) -> bool:
    return pattern is None or value == pattern or fnmatchcase(value, pattern)


def _includes(value: object, part: object) -> bool:
    r"""Whether a value is another one, dictionaries may have more keys."""
    if isinstance(value, Mapping) and isinstance(part, Mapping):
        items = {repr(key): item for key, item in value.items()}
        return all(
            repr(key) in items and _includes(items[repr(key)], item)
            for key, item in part.items()
        )
    return ids.comparable(value) == ids.comparable(part)


@dataclass
class Catalogue:
    r"""Models of a repository.

    Args:
        headers: headers of the models
        stored: their stored form
        aliases: model that each alias points to
        problems: what could not be read
        sizes: bytes of archives, as far as they are known

    """

    headers: dict[ModelId, Header] = field(default_factory=dict)
    stored: dict[ModelId, bytes] = field(default_factory=dict)
    aliases: dict[str, ModelId] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    sizes: dict[ModelId, int] = field(default_factory=dict)


def read(
    registry: Registry,
    wanted: Filter,
    cache_root: str,
    *,
    num_workers: int,
    start_progress: StartProgress,
    sizes: bool = False,
    known: Mapping[str, bytes] | None = None,
    targets: Mapping[str, ModelId] | None = None,
) -> Catalogue:
    r"""Read the records of all models that are wanted.

    Headers that are known, or in the cache, are taken from there.

    Args:
        registry: where the models are
        wanted: which models
        cache_root: cache folder
        num_workers: number of threads
        start_progress: called with the number of records,
            gives a function that is called with the number of those that were read
        sizes: whether to ask for sizes of archives that headers lack,
            with one request for each
        known: stored headers by model ID, which need not be valid
        targets: model that each alias points to, read if it is not given

    Returns:
        models whose header can be read

    Raises:
        RepositoryError: if the repository cannot be listed

    """
    catalogue = Catalogue()
    if targets is None:
        targets = read_aliases(registry, catalogue.problems, num_workers=num_workers)
    catalogue.aliases.update(targets)
    models = registry.models()
    if wanted.alias is not None:
        named = {
            model for name, model in targets.items() if wanted.matches_alias([name])
        }
        models = [model for model in models if model in named]
    progress = start_progress(len(models))

    def readable(model: ModelId) -> tuple[Header, bytes] | None:
        progress(1)
        content = (known or {}).get(str(model)) or _cached(registry, model, cache_root)
        found = _parsed(content, model) or registry.header(model)
        if found is not None:
            _ = found[0].parameters  # raises if they are not data
        return found

    for model, (found, stored) in _read_all(
        readable, models, num_workers, catalogue.problems
    ).items():
        if wanted.matches(found):
            catalogue.headers[model] = found
            catalogue.stored[model] = stored
            if found.archive is not None:
                catalogue.sizes[model] = found.archive.size
    if sizes:
        catalogue.sizes.update(_archive_sizes(registry, catalogue, num_workers))
    return catalogue


def _cached(registry: Registry, model: ModelId, cache_root: str) -> bytes | None:
    r"""Stored header of a model that is in the cache."""
    entry = CacheEntry(cache_root, model)
    content = entry.header.read(document.MAX_BYTES)
    # Another repository may have another model of the same ID
    url = registry.header_url(model).encode()
    is_own = content is not None and entry.origin.read(len(url)) == url
    return content if is_own else None


def _parsed(content: bytes | None, model: ModelId) -> tuple[Header, bytes] | None:
    r"""Header in a copy, ``None`` if there is none, or it is not valid."""
    if content is not None:
        with contextlib.suppress(InvalidDocumentError):
            return header_module.parse(content, model, "A copy of a header"), content
    return None


def _archive_sizes(
    registry: Registry, catalogue: Catalogue, num_workers: int
) -> dict[ModelId, int]:
    r"""Sizes of archives that headers lack."""

    def size(model: ModelId) -> int | None:
        return registry.archive_size(model, catalogue.headers[model])

    lacking = [model for model in catalogue.headers if model not in catalogue.sizes]
    problems: list[str] = []
    found = _read_all(size, lacking, num_workers, problems)
    for problem in problems:
        logger.info("The size of an archive is not known: %s", problem)
    return found


def read_aliases(
    registry: Registry, problems: list[str], *, num_workers: int
) -> dict[str, ModelId]:
    r"""Read all aliases of a repository.

    Args:
        registry: where they are
        problems: gets what is wrong with those that cannot be read
        num_workers: number of threads

    Returns:
        model that each alias points to, whether it exists or not

    Raises:
        RepositoryError: if the repository cannot be listed

    """
    return _read_all(registry.alias, registry.alias_names(), num_workers, problems)


def _read_all(
    read: Callable[[Item], Record | None],
    items: list[Item],
    num_workers: int,
    problems: list[str],
) -> dict[Item, Record]:
    r"""Records that can be read."""
    found: dict[Item, Record] = {}
    for item, record in read_records(read, items, num_workers=num_workers):
        if isinstance(record, str):
            problems.append(record)
        # A record that was removed in the meantime is no problem
        elif record is not None:
            found[item] = record
    return found
