r"""The header of a model, and the repository that holds the model."""

from __future__ import annotations

from typing import Any

from audmodel.core.api.arguments import wanted_model
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.find import find
from audmodel.core.operations.find import find_header
from audmodel.core.repository.repository import Repository


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.repository.provenance import Provenance


def author(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> str:
    r"""Author of a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        name of the author

    Raises:
        TypeError: if an argument is of the wrong type
        AudmodelError: for the reasons that :func:`audmodel.header` names

    Examples:
        >>> audmodel.author("3e120e8d-1.0.0")
        'sphinx'

    """
    return find_header(wanted_model(uid, cache_root, repository)).author


def date(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> str:
    r"""Publication date of a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        date as ``'yyyy-mm-dd'``

    Raises:
        TypeError: if an argument is of the wrong type
        AudmodelError: for the reasons that :func:`audmodel.header` names

    Examples:
        >>> audmodel.date("3e120e8d-1.0.0")
        '2026-01-01'

    """
    return str(find_header(wanted_model(uid, cache_root, repository)).date)


def header(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    r"""Header of a model.

    A header never changes.
    It is kept in the cache.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        dictionary with author, date, name, parameters, subgroup, and version

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> audmodel.header("3e120e8d-1.0.0")["name"]
        'onnx'

    """
    return find_header(wanted_model(uid, cache_root, repository)).public()


def name(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> str:
    r"""Name of a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        name

    Raises:
        TypeError: if an argument is of the wrong type
        AudmodelError: for the reasons that :func:`audmodel.header` names

    Examples:
        >>> audmodel.name("3e120e8d-1.0.0")
        'onnx'

    """
    return find_header(wanted_model(uid, cache_root, repository)).name


def parameters(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    r"""Parameters of a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        parameters

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid,
            or the parameters are not plain data,
            which does not prevent loading the model
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> audmodel.parameters("3e120e8d-1.0.0")["sampling_rate"]
        16000

    """
    return dict(find_header(wanted_model(uid, cache_root, repository)).parameters)


def provenance(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> Provenance:
    r"""When, with what, and from what a model was published.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        time in UTC by the clock of the storage, program,
        and the source that was given to :func:`audmodel.publish`,
        or that a CI system told

    Raises:
        TypeError: if an argument is of the wrong type
        AudmodelError: for the reasons that :func:`audmodel.header` names

    Examples:
        >>> audmodel.provenance("3e120e8d-1.0.0").client
        'audmodel ...'

    """
    return find_header(wanted_model(uid, cache_root, repository)).provenance


def repository(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> Repository:
    r"""Repository that holds a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        first configured repository that holds the model

    Raises:
        TypeError: if an argument is of the wrong type
        AudmodelError: for the reasons that :func:`audmodel.header` names

    Examples:
        >>> audmodel.repository("3e120e8d-1.0.0").name
        'models'

    """
    return find(wanted_model(uid, cache_root, repository), any_archive=True).repository


def size(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> int | None:
    r"""Size of the archive of a model.

    The header names it.
    For a model of an earlier release the storage is asked.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        bytes, ``None`` if the storage does not tell, or has no archive

    Raises:
        TypeError: if an argument is of the wrong type
        AudmodelError: for the reasons that :func:`audmodel.header` names

    Examples:
        >>> audmodel.size("3e120e8d-1.0.0")
        1120

    """
    from audmodel.core.repository.lookup import open_registry

    wanted = wanted_model(uid, cache_root, repository)
    known = find_header(wanted).archive
    if known is not None:
        return known.size
    found = find(wanted, any_archive=True)
    with open_registry(found.repository) as registry:
        return registry.archive_size(found.model, found.header)


def subgroup(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> str:
    r"""Subgroup of a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        subgroup, empty if there is none

    Raises:
        TypeError: if an argument is of the wrong type
        AudmodelError: for the reasons that :func:`audmodel.header` names

    Examples:
        >>> audmodel.subgroup("3e120e8d-1.0.0")
        'emotion.cnn'

    """
    return find_header(wanted_model(uid, cache_root, repository)).subgroup


def url(
    uid: str,
    *,
    type: str = "model",
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> str:
    r"""Location of a model in its repository.

    Args:
        uid: model ID or alias
        type: ``'model'`` for the archive, ``'header'``, or ``'meta'``
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        URL, or path on the file system

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if ``type`` is not one of the values above,
            or no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> audmodel.url("3e120e8d-1.0.0", type="header")
        '...header.yaml'

    """
    from audmodel.core.repository import layout
    from audmodel.core.repository.lookup import open_registry

    if type not in ("model", "header", "meta"):
        raise InvalidInputError(
            f"'type' has to be one of 'model', 'header', 'meta', not {type!r}."
        )
    found = find(wanted_model(uid, cache_root, repository), any_archive=True)
    with open_registry(found.repository) as registry:
        if type == "model":
            path = layout.archive_path(found.model, found.header.location)
        else:
            path = layout.record_path(found.model, type)
        return registry.backend.object_url(path)


def version(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> str:
    r"""Version of a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        version

    Raises:
        TypeError: if an argument is of the wrong type
        AudmodelError: for the reasons that :func:`audmodel.header` names

    Examples:
        >>> audmodel.version("emotion-small")
        '1.0.0'

    """
    return find_header(wanted_model(uid, cache_root, repository)).version
