r"""Sign models that exist."""

from __future__ import annotations

from collections.abc import Callable

from audmodel.core.errors import InvalidInputError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.errors import PublishConflictError
from audmodel.core.home import expand_home
from audmodel.core.operations import trust
from audmodel.core.operations.find import missing_message
from audmodel.core.repository import deletion
from audmodel.core.repository import signatures
from audmodel.core.repository.header import Header
from audmodel.core.repository.lookup import first
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository
from audmodel.core.signing import keys
from audmodel.core.signing.keys import SigningKey
from audmodel.core.uid import ModelId


def load_key(path: str, passphrase: Callable[[], str] | None) -> SigningKey:
    r"""Key that signs models.

    Args:
        path: its file
        passphrase: returns the passphrase of a key that is encrypted

    Raises:
        ConfigurationError: if the path begins with a home folder that is not known
        InvalidInputError: if the file holds no key that can be used
        MissingPackageError: if the package ``cryptography`` is missing

    """
    return keys.load(expand_home(path), passphrase)


def locate(
    model: ModelId, repositories: tuple[Repository, ...] | None
) -> tuple[Repository, Header, bytes]:
    r"""Find a model, trusted or not.

    Returns:
        repository, header, and stored header

    Raises:
        ModelNotFoundError: if it does not exist
        RepositoryError: if a repository cannot be used

    """
    found = first(lambda registry: registry.header(model), repositories)
    if found is None:
        raise ModelNotFoundError(missing_message(model, repositories))
    repository, (header, content) = found
    return repository, header, content


def sign(
    model: ModelId, repositories: tuple[Repository, ...] | None, key: SigningKey
) -> None:
    r"""Sign the stored header of a model.

    Args:
        model: ID of the model
        repositories: where it may be
        key: key of the signer

    Raises:
        InvalidInputError: if a signature would say nothing about the model
        ModelNotFoundError: if it does not exist, or is deleted meanwhile
        PublishConflictError: if it is being deleted
        RepositoryError: if the signature cannot be stored

    """
    repository, header, content = locate(model, repositories)
    problem = trust.unsignable(model, header)
    if problem:
        raise InvalidInputError(f"The model '{model}' cannot be signed: {problem}.")
    with open_registry(repository) as registry:
        store(registry, model, key.sign(content))


def store(registry: Registry, model: ModelId, signature: bytes) -> None:
    r"""Store a signature of a model that exists.

    Raises:
        ModelNotFoundError: if it was deleted meanwhile
        PublishConflictError: if it is being deleted
        RepositoryError: if the signature cannot be stored

    """
    path = signatures.store(registry.backend, model, signature)
    try:
        deletion.check_not_deleted(registry, model)
    except (ModelNotFoundError, PublishConflictError):
        signatures.remove(registry.backend, path)
        raise
