r"""What has to be copied from one repository to another one."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from contextlib import contextmanager
import dataclasses
from dataclasses import dataclass
from dataclasses import field
import logging
import warnings

from audmodel.core import uid as ids
from audmodel.core.archive import format
from audmodel.core.archive.checker import Checker
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.errors import AliasNotFoundError
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import ModelExistsError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.operations import catalogue
from audmodel.core.operations.archives import read_directory
from audmodel.core.operations.publishing import make_embedded
from audmodel.core.process.requests import prefetch_requests
from audmodel.core.repository import layout
from audmodel.core.repository.config import is_embedded
from audmodel.core.repository.conflicts import check_free
from audmodel.core.repository.header import Header
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import Alias
from audmodel.core.uid import ModelId
from audmodel.core.uid import ShortId


logger = logging.getLogger("audmodel")


@dataclass(frozen=True)
class Route:
    r"""From where to where models are copied.

    Args:
        source: repository that has the models
        origin: its records
        target: repository that gets them
        registry: its records
        moves_aliases: whether an alias that points to another model is moved
        num_workers: number of threads for all models together
        repairs: whether archives of the target are read, to store damaged ones again

    """

    source: Repository
    origin: Registry
    target: Repository
    registry: Registry
    moves_aliases: bool
    num_workers: int
    repairs: bool = False


@contextmanager
def open_route(
    source: Repository,
    target: Repository,
    *,
    moves_aliases: bool,
    num_workers: int,
    repairs: bool = False,
) -> Iterator[Route]:
    r"""Open two repositories.

    Args:
        source: repository that has the models
        target: repository that gets them
        moves_aliases: whether an alias that points to another model is moved
        num_workers: number of threads for all models together
        repairs: whether archives of the target are read, to store damaged ones again

    Raises:
        ConfigurationError: if a backend is not known
        RepositoryError: if a repository does not exist, or cannot be reached

    """
    if is_embedded(target):
        make_embedded(target)
    with open_registry(source) as origin, open_registry(target) as registry:
        yield Route(
            source, origin, target, registry, moves_aliases, num_workers, repairs
        )


@dataclass(frozen=True)
class Names:
    r"""Aliases of a model that the target lacks.

    Args:
        wanted: aliases to set
        kept: aliases that point to another model in the target, and stay as they are

    """

    wanted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    r"""What is to be done for one model.

    Args:
        model: ID of the model
        header: its header
        content: its stored header
        size: size of its archive in bytes
        has_header: whether the target has the same header
        has_archive: whether the target has its archive, in the right size
        names: aliases to set, and to keep

    """

    model: ModelId
    header: Header
    content: bytes
    size: int
    has_header: bool
    has_archive: bool
    names: Names

    @property
    def is_done(self) -> bool:
        r"""Whether nothing has to be copied."""
        return self.has_header and self.has_archive


def resolve(route: Route, uid: ModelId | ShortId | Alias) -> ModelId:
    r"""Model of the source for any kind of ID.

    Args:
        route: where to look
        uid: any kind of ID, the latest version if it has none

    Raises:
        AliasNotFoundError: if there is no such alias
        InvalidDocumentError: if an alias does not name a model ID
        ModelNotFoundError: if there is no version
        RepositoryError: if the source cannot be read

    """
    if isinstance(uid, ModelId):
        return uid
    if isinstance(uid, Alias):
        model = route.origin.alias(uid.name)
        if model is None:
            raise AliasNotFoundError(
                f"An alias with name '{uid}' does not exist in {route.source}."
            )
        return dataclasses.replace(model, found_by=uid)
    versions = ids.sort_versions(route.origin.versions(uid.short))
    if not versions:
        raise _missing(route, uid)
    return ModelId(uid.short, versions[-1])


def _missing(route: Route, uid: ModelId | ShortId) -> ModelNotFoundError:
    alias = getattr(uid, "found_by", None)
    which = (
        f"The alias '{alias}' points to the model '{uid}', which"
        if alias
        else (f"A model with ID '{uid}'")
    )
    return ModelNotFoundError(f"{which} does not exist in {route.source}.")


def plan(
    route: Route,
    models: Iterable[ModelId],
    names: Mapping[ModelId, Names],
) -> list[Plan]:
    r"""What is to be done for models, of which the target may have some.

    Args:
        route: from where to where
        models: IDs of the models
        names: aliases to set, and to keep, of models that have some

    Raises:
        ArchiveError: if an archive does not exist
        InvalidDocumentError: if a header is not valid
        ModelExistsError: if the target has another model of the same ID
        ModelNotFoundError: if the source does not have a model
        RepositoryError: if a record cannot be read

    """

    def prepare(model: ModelId) -> Plan:
        found = route.origin.header(model)
        if found is None:
            raise _missing(route, model)
        header, content = found
        size = _size(route, model, header)
        has_header = has_same(route, model, header, content)
        return Plan(
            model,
            header,
            content,
            size,
            has_header,
            has_header and _has_archive(route, model, header, size),
            names.get(model, Names()),
        )

    with contextlib.closing(
        prefetch_requests(prepare, dict.fromkeys(models), num_workers=route.num_workers)
    ) as plans:
        return list(plans)


def has_same(route: Route, model: ModelId, header: Header, content: bytes) -> bool:
    r"""Whether the target has the same model.

    Args:
        route: where to look
        model: ID of the model
        header: its header in the source
        content: its stored header in the source

    Raises:
        InvalidDocumentError: if the header in the target is not valid
        ModelExistsError: if the target has another model of the ID, or short ID
        RepositoryError: if the target cannot be read

    """
    found = route.registry.header(model)
    if found is None:
        try:
            check_free(route.registry, model, header)
            return False
        except ModelExistsError:
            # Another process may have copied it since
            found = route.registry.header(model)
            if found is None:
                raise
    identity = header.archive
    if found[1] == content or (identity and identity == found[0].archive):
        return True
    raise ModelExistsError(
        f"The model '{model}' in {route.target}, published by {found[0].author!r} on "
        f"{found[0].date}, is another one than that in {route.source}, "
        f"published by {header.author!r} on {header.date}. Nothing was copied."
    )


def _size(route: Route, model: ModelId, header: Header) -> int:
    r"""Size of an archive."""
    if header.archive is not None:
        return header.archive.size
    path = layout.archive_path(model, header.location)
    with route.origin.backend.open_object(path) as reader:
        if reader is None:
            raise no_archive(route, model, header)
        return reader.size


def _has_archive(route: Route, model: ModelId, header: Header, size: int) -> bool:
    r"""Whether the target has an archive of the right size, or content."""
    path = layout.archive_path(model, header.location)
    backend = route.registry.backend
    state = backend.stat_object(path)
    if state is None or (state.size == size and not route.repairs):
        return state is not None
    with backend.open_object(path) as reader:
        if reader is None:
            return False
        if reader.size != size:
            # Without an identity, either of the two may be the published one
            return header.archive is None and _directory(reader, header) is not None
        if not route.repairs:
            return True
        directory = _directory(reader, header)
        return directory is not None and not Checker(reader, directory).damaged()


def _directory(reader: ObjectReader, header: Header) -> format.Directory | None:
    r"""Directory of an archive, ``None`` if it is damaged, or of another archive."""
    try:
        return read_directory(reader, header)[0]
    except ArchiveError:
        return None


def no_archive(route: Route, model: ModelId, header: Header) -> ArchiveError:
    r"""Error for a model of the source whose archive is missing.

    Args:
        route: where the model is
        model: ID of the model
        header: its header

    """
    path = layout.archive_path(model, header.location)
    return ArchiveError(
        f"The archive of model '{model}' at "
        f"'{route.origin.backend.object_url(path)}' does not exist."
    )


def lacking_aliases(route: Route, models: Iterable[ModelId]) -> dict[ModelId, Names]:
    r"""Aliases of models of the source that the target lacks.

    Args:
        route: from where to where
        models: IDs of the models

    Returns:
        names in alphabetical order, by model, only of models that have some

    Raises:
        RepositoryError: if a repository cannot be read

    """
    problems: list[str] = []
    known, found = (
        catalogue.read_aliases(registry, problems, num_workers=route.num_workers)
        for registry in (route.registry, route.origin)
    )
    for problem in problems:
        warnings.warn(f"{problem} It is left out.", stacklevel=2)
    wanted = set(models)
    names: dict[ModelId, Names] = {}
    for name, model in sorted(found.items()):
        if model not in wanted or known.get(name) == model:
            continue
        own = names.setdefault(model, Names())
        if name in known and not route.moves_aliases:
            own.kept.append(name)
            warnings.warn(
                f"The alias '{name}' points to '{model}' in {route.source}, "
                f"and to '{known[name]}' in {route.target}. It stays as it is.",
                stacklevel=2,
            )
        else:
            own.wanted.append(name)
    return names


def missing(route: Route, models: Iterable[ModelId]) -> list[ModelId]:
    r"""Models that the target may lack, or has no archive of the right size of.

    Nothing but the sizes of their archives is compared, as far as lists tell them.

    Args:
        route: from where to where
        models: IDs of models that the source has

    Raises:
        RepositoryError: if a repository cannot be listed

    """
    found = route.registry.backend.object_sizes("/")
    published = route.origin.backend.object_sizes("/")
    headers = {layout.model_of_record(path, "header") for path in found}
    archives = {
        layout.model_of_archive(path)
        for path, size in found.items()
        if size is None or published.get(path) in (None, size)
    }
    return sorted(model for model in models if model not in headers & archives)
