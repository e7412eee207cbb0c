r"""Sign models, and see who signed them."""

from __future__ import annotations

from collections.abc import Callable
import os

from audmodel.core.api.arguments import chosen
from audmodel.core.api.arguments import wanted_model
from audmodel.core.operations.results import Signature
from audmodel.core.repository.repository import Repository


def sign(
    uid: str,
    key: str | os.PathLike[str],
    *,
    passphrase: Callable[[], str] | None = None,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> str:
    r"""Sign a model that exists.

    The signature is over the stored header,
    which names the archive by a digest.
    Verify the model before you sign it:
    people who can write to the repository may have replaced it.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        key: file of an Ed25519 key of OpenSSH.
            The agent signs if it is a public key,
            or encrypted and the agent has it
        passphrase: returns the passphrase of an encrypted key
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        ID of the model that was signed

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if the key cannot be used,
            or the model was published by an earlier release,
            whose headers do not identify the archive
        MissingPackageError: if the package ``cryptography`` is missing
        ModelNotFoundError: if the model does not exist
        PublishConflictError: if another process deletes the model
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.sign("3e120e8d-1.0.0", "id_ed25519")
        '3e120e8d-1.0.0'

    """
    from audmodel.core.operations import signing

    loaded = signing.load_key(os.fspath(key), passphrase)
    model = wanted_model(uid, cache_root, repository).model
    signing.sign(model, chosen(repository), loaded)
    return str(model)


def signatures(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> list[Signature]:
    r"""Signatures of a model in its repository, trusted or not.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        signatures, none if the model is not signed

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        MissingPackageError: if the package ``cryptography`` is missing
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> [each.valid for each in audmodel.signatures("3e120e8d-1.0.0")]
        [True]

    """
    from audmodel.core.operations import signing
    from audmodel.core.operations import trust

    model = wanted_model(uid, cache_root, repository).model
    where, header, content = signing.locate(model, chosen(repository))
    return trust.find(where, model, header, content)
