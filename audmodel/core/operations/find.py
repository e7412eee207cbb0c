r"""Find models in the configured repositories and in the cache."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import dataclasses
from dataclasses import dataclass

from audmodel.core import uid as ids
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.errors import ArchiveMismatchError
from audmodel.core.errors import AudmodelError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.repository.config import config
from audmodel.core.repository.config import needs_signatures
from audmodel.core.repository.repository import Repository
from audmodel.core.repository.repository import fingerprint
from audmodel.core.uid import Alias
from audmodel.core.uid import ModelId
from audmodel.core.uid import ShortId


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.repository.header import Header
    from audmodel.core.repository.registry import Registry


# Versions that a message names
_SHOWN = 10


@dataclass(frozen=True)
class Wanted:
    r"""Model that a user asks for, and where it may come from.

    Args:
        entry: its place in the cache
        repositories: repositories to search,
            all that are configured if it is ``None``

    """

    entry: CacheEntry
    repositories: tuple[Repository, ...] | None = None

    @property
    def model(self) -> ModelId:
        r"""ID of the model."""
        return self.entry.model


@dataclass(frozen=True)
class Found:
    r"""Model that a repository has.

    Args:
        entry: its place in the cache
        repository: the repository
        header: its header

    """

    entry: CacheEntry
    repository: Repository
    header: Header

    @property
    def model(self) -> ModelId:
        r"""ID of the model."""
        return self.entry.model


def resolve(
    uid: ModelId | ShortId | Alias,
    cache_root: str,
    repositories: Sequence[Repository] | None = None,
) -> ModelId:
    r"""ID of one version of a model for any kind of ID.

    Without network it is the result of the last lookup.

    Args:
        uid: any kind of ID
        cache_root: cache folder that keeps results of lookups
        repositories: repositories to search

    Raises:
        InvalidDocumentError: if an alias does not name a model ID
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    """
    if isinstance(uid, ModelId):
        return uid
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.cache import alias_cache

    scope = "".join(map(fingerprint, repositories or ()))
    try:
        model = _look_up(uid, repositories)
    except OfflineError:
        model = alias_cache.recall(cache_root, uid, scope)
        if model is None:
            raise
        return model
    if model is None:
        raise ModelNotFoundError(missing_message(uid, repositories))
    alias_cache.remember(cache_root, uid, model, scope)
    return dataclasses.replace(model, found_by=uid)


def _look_up(
    uid: ShortId | Alias, repositories: Sequence[Repository] | None
) -> ModelId | None:
    if isinstance(uid, Alias):
        return alias_target(uid.name, repositories)
    found = find_versions(uid.short, repositories)
    return ModelId(uid.short, found[-1]) if found else None


def confirm(wanted: Wanted) -> None:
    r"""Make sure that the model in the cache is the one that is asked for.

    Nothing is asked unless the user names a repository,
    and the model in the cache came from another one,
    which may have another model of the same ID.

    Raises:
        ArchiveMismatchError: if the model in the cache is of another archive
        InvalidDocumentError: if the header of the model is not valid
        ModelNotFoundError: if the repository does not have the model
        RepositoryError: if the repository cannot be used

    """
    if wanted.entry.slot is not None and not is_kept(wanted):
        find(wanted)


def is_kept(wanted: Wanted) -> bool:
    r"""Whether what the cache has of a model counts without a look at a repository.

    Returns:
        ``True`` if any repository will do, or it came from the one to search,
        and the cache keeps a signature that a repository asks for

    """
    repositories = wanted.repositories
    if repositories is None:
        if not any(map(needs_signatures, config.REPOSITORIES)):
            return True
        repositories = tuple(config.REPOSITORIES)
    from audmodel.core.operations import trust
    from audmodel.core.repository import layout

    path = layout.record_path(wanted.model, "header")
    urls = [repository.locate(path).encode() for repository in repositories]
    origin = wanted.entry.origin.read(max(map(len, urls)))
    return any(
        origin == url and trust.is_kept(wanted.entry, repository)
        for url, repository in zip(urls, repositories, strict=True)
    )


def find(wanted: Wanted, *, any_archive: bool = False) -> Found:
    r"""Find a model in the repositories to search.

    Args:
        wanted: the model
        any_archive: whether the model in the cache may be of another archive

    Raises:
        ArchiveMismatchError: if the model in the cache is of another archive
        InvalidDocumentError: if the header of the model is not valid
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if the repository asks for a signature that it lacks

    """
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.operations import trust
    from audmodel.core.repository.lookup import first

    model, entry = wanted.model, wanted.entry
    try:
        found = first(lambda registry: _header(registry, model), wanted.repositories)
    except OfflineError as error:
        raise OfflineError(
            f"The model '{model}', or a part of it, or a trusted signature of it, "
            f"is not in the cache. {error}"
        ) from error
    if found is None:
        raise ModelNotFoundError(
            f"{missing_message(model, wanted.repositories)}"
            f"{existing_versions(model, wanted.repositories)}"
        )
    repository, (header, content, url) = found
    signed = trust.check(repository, model, header, content)
    if _is_other(wanted, header, content, must_match=signed is not None):
        if not any_archive:
            raise other_archive(entry, repository)
    else:
        entry.header.keep(content)
        if signed is not None:
            entry.signatures.keep(signed)
        entry.origin.keep(url.encode())
    return Found(entry, repository, header)


def _is_other(
    wanted: Wanted, header: Header, content: bytes, *, must_match: bool
) -> bool:
    r"""Whether the model in the cache is not the one of a repository.

    Headers of earlier releases do not identify the archive.
    If the user names the repository,
    two of them that differ count as headers of two models.

    Args:
        wanted: the model
        header: header in the repository
        content: its stored form
        must_match: whether the cache has to hold a proof that it is

    """
    from audmodel.core.operations.local import Local
    from audmodel.core.yaml import document

    entry = wanted.entry
    if must_match:
        return entry.slot is not None and not Local(entry).is_proven(header.archive)
    if wanted.repositories is None:
        return entry.is_complete and not Local(entry).is_of(header.archive)
    if entry.slot is None:
        return False
    if header.archive is None or not entry.index.exists():
        return entry.header.read(document.MAX_BYTES) not in (None, content)
    return not Local(entry).is_of(header.archive)


def _header(registry: Registry, model: ModelId) -> tuple[Header, bytes, str] | None:
    r"""Header of a model, its stored form, and where it is."""
    found = registry.header(model)
    return None if found is None else (*found, registry.header_url(model))


def other_archive(entry: CacheEntry, repository: object) -> ArchiveMismatchError:
    r"""Error that says that a model in the cache is not the one of a repository."""
    return ArchiveMismatchError(
        f"The model '{entry.model}' in '{entry.whole.folder.path}' "
        f"is not the one in {repository}: it was deleted there and published again, "
        "or loaded from a repository that has another model of the same ID. "
        f"Remove it with audmodel.remove_cached('{entry.model}') "
        "to load the one of the repository."
    )


def find_header(wanted: Wanted) -> Header:
    r"""Header of a model, from the cache if it is there.

    Raises:
        InvalidDocumentError: if the header of the model is not valid
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    """
    from audmodel.core.errors import InvalidDocumentError
    from audmodel.core.repository import header as header_module
    from audmodel.core.yaml import document

    entry = wanted.entry
    content = entry.header.read(document.MAX_BYTES)
    if content is not None and is_kept(wanted):
        try:
            return header_module.parse(content, entry.model, f"'{entry.header.path}'")
        except InvalidDocumentError:
            pass  # it is fetched again
    return find(wanted, any_archive=wanted.repositories is not None).header


def find_versions(
    short: str, repositories: Sequence[Repository] | None = None
) -> list[str]:
    r"""Versions of a model in all repositories to search.

    Args:
        short: short ID of the model
        repositories: repositories to search, all that are configured if it is ``None``

    Returns:
        versions from oldest to newest

    Raises:
        RepositoryError: if a repository cannot be used

    """
    from audmodel.core.repository.lookup import each

    found = each(lambda registry: registry.versions(short), repositories)
    return ids.sort_versions(set().union(*(versions for _, versions in found)))


def alias_target(
    name: str, repositories: Sequence[Repository] | None = None
) -> ModelId | None:
    r"""Model that an alias points to in the first repository that has it.

    Args:
        name: name of the alias
        repositories: repositories to search, all that are configured if it is ``None``

    Returns:
        ID of the model, or ``None`` if there is no such alias

    Raises:
        InvalidDocumentError: if the alias does not name a model ID
        RepositoryError: if a repository cannot be used

    """
    from audmodel.core.repository.lookup import first

    found = first(lambda registry: registry.alias(name), repositories)
    return None if found is None else found[1]


def existing_versions(
    model: ModelId, repositories: Sequence[Repository] | None = None
) -> str:
    r"""Sentence about the versions of a model that exist, for messages.

    Args:
        model: ID of a version that does not exist
        repositories: where it was searched

    Returns:
        sentence with a space in front, empty if there is no version

    """
    versions: list[str] = []
    with contextlib.suppress(AudmodelError):
        versions = find_versions(model.short, repositories)
    if not versions:
        return ""
    shown = ", ".join(versions[-_SHOWN:])
    return f" Its {'newest ' if len(versions) > _SHOWN else ''}versions are: {shown}."


def missing_message(
    uid: ModelId | ShortId | Alias, repositories: Sequence[Repository] | None = None
) -> str:
    r"""Message of an error for a model that was not found.

    Args:
        uid: ID that does not exist
        repositories: where it was searched

    """
    where = searched(repositories)
    if isinstance(uid, ModelId) and isinstance(uid.found_by, Alias):
        return (
            f"The alias '{uid.found_by}' points to the model '{uid}', "
            f"which does not exist in {where}. "
            "Let it point to another model with audmodel.set_alias(), "
            "or delete it with audmodel.delete_alias()."
        )
    return f"A model with ID '{uid}' does not exist in {where}."


def missing_alias(name: str, repositories: Sequence[Repository] | None) -> str:
    r"""Message of an error for an alias that was not found.

    Args:
        name: name of the alias
        repositories: where it was searched

    """
    return (
        f"An alias with name {name[:150]!r} does not exist in {searched(repositories)}."
    )


def searched(repositories: Sequence[Repository] | None = None) -> str:
    r"""Names of the repositories that were searched, for messages.

    Args:
        repositories: these repositories, all that are configured if it is ``None``

    """
    if repositories is None:
        repositories = config.REPOSITORIES
    if not repositories:
        return "any repository, since none is configured"
    return " or ".join(map(str, repositories))
