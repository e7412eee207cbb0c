r"""Errors of repositories, see :mod:`audmodel.errors` for the whole tree."""

from __future__ import annotations

import audbackend

from audmodel.core.errors import AudmodelError


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.backend.objects import StoredObject


class RepositoryError(AudmodelError, audbackend.BackendError):  # type: ignore[misc]
    r"""A request to a repository failed.

    Args:
        message: what happened, why, and what to do
        exception: the error that the storage raised, if there is one

    """

    __module__ = "audmodel.errors"

    def __init__(self, message: str, exception: Exception | None = None) -> None:
        Exception.__init__(self, message)
        self.exception = exception if exception is not None else self

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[RepositoryError], tuple[str]]:
        return type(self), (str(self),)


class RepositoryNotFoundError(RepositoryError):
    r"""The repository does not exist."""

    __module__ = "audmodel.errors"


class RepositoryUnreachableError(RepositoryError):
    r"""The repository does not respond."""

    __module__ = "audmodel.errors"


class OfflineError(RepositoryUnreachableError):
    r"""The repository is remote, and ``AUDMODEL_OFFLINE`` is set."""

    __module__ = "audmodel.errors"


class HiddenError(RepositoryError):
    r"""The repository does not say whether an object exists."""


class CopyError(RepositoryError):
    r"""Bytes of another object could not be copied, and nothing was written."""


class CopyRefusedError(CopyError):
    r"""The storage refused to copy bytes of another object."""


class WrongCopyError(CopyRefusedError):
    r"""The storage copied other bytes than it was asked for."""


class DamagedObjectError(RepositoryError):
    r"""The content of an object differs from what was stored.

    Args:
        message: what happened, why, and what to do
        stored: the object as it is, ``None`` after pickling

    """

    def __init__(self, message: str, stored: StoredObject | None = None) -> None:
        super().__init__(message)
        self.stored = stored


class WriteUncertainError(RepositoryError):
    r"""The outcome of a write is unknown."""

    __module__ = "audmodel.errors"


class UnprotectedRepositoryError(RepositoryError):
    r"""The storage has no conditional writes: publishers may overwrite each other."""

    __module__ = "audmodel.errors"
