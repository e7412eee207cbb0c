r"""Errors raised by audmodel.

Every error derives from :class:`AudmodelError`
and from the builtin or ``audbackend`` class
that audmodel 1.x raised for the same mistake,
so that existing ``except`` clauses keep working::

    AudmodelError
    ├── InvalidInputError (ValueError)
    │   ├── InvalidIdError (RuntimeError)     malformed model ID
    │   ├── InvalidFolderError (RuntimeError) model folder that cannot be published
    │   ├── InvalidDataError (RuntimeError)   parameters or metadata not to be stored
    │   └── FileNotInModelError (FileNotFoundError)  no such file in the model
    ├── ConfigurationError (ValueError)       configuration file or repository entry
    ├── ModelNotFoundError (RuntimeError)     no such model ID
    ├── AliasNotFoundError (RuntimeError)     no such alias
    ├── ModelExistsError (RuntimeError)       model ID was published before
    ├── PublishConflictError (RuntimeError)   somebody else publishes this model ID
    ├── FileChangedError (RuntimeError)       file changed while it was published
    ├── InvalidDocumentError (ValueError)     YAML that is not plain data
    ├── ArchiveError (RuntimeError)           archive that is damaged or hostile
    │   └── ArchiveMismatchError              archive that is not the published one
    ├── CacheError (OSError)                  cache that cannot be used
    │   ├── CacheBusyError                    another process is at work on the model
    │   │   └── LockTimeoutError (filelock.Timeout)  for longer than one waits
    │   ├── DiskFullError                     not enough room for the model
    │   └── NotCachedError (FileNotFoundError)  the model is not in the cache
    └── RepositoryError (audbackend.BackendError)
        ├── RepositoryNotFoundError           the repository does not exist
        ├── RepositoryUnreachableError        the repository gives no answer
        │   └── OfflineError                  the repository must not be asked
        ├── UnprotectedRepositoryError        publishers that meet do harm
        └── WriteUncertainError               stored or not, nobody can tell

"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from typing import Any


if TYPE_CHECKING:
    from audmodel.core.backend.errors import OfflineError as OfflineError
    from audmodel.core.backend.errors import RepositoryError as RepositoryError
    from audmodel.core.backend.errors import (
        RepositoryNotFoundError as RepositoryNotFoundError,
    )
    from audmodel.core.backend.errors import (
        RepositoryUnreachableError as RepositoryUnreachableError,
    )
    from audmodel.core.backend.errors import (
        UnprotectedRepositoryError as UnprotectedRepositoryError,
    )
    from audmodel.core.backend.errors import WriteUncertainError as WriteUncertainError
    from audmodel.core.cache.errors import LockTimeoutError as LockTimeoutError


class AudmodelError(Exception):
    r"""Base class of all errors raised by audmodel."""


class InvalidInputError(AudmodelError, ValueError):
    r"""An argument has a value that cannot be used."""


class InvalidIdError(InvalidInputError, RuntimeError):
    r"""A string is neither a model ID nor an alias."""


class InvalidFolderError(InvalidInputError, RuntimeError):
    r"""A model folder holds something that cannot be published."""


class InvalidDataError(InvalidInputError, RuntimeError):
    r"""Parameters or metadata hold something that cannot be stored."""


# Pickle makes an error with what its first base is made with
class FileNotInModelError(FileNotFoundError, InvalidInputError):
    r"""A model has no file of this name, or none that matches a pattern."""


class ConfigurationError(AudmodelError, ValueError):
    r"""A configuration file or a repository entry cannot be used."""


class ModelNotFoundError(AudmodelError, RuntimeError):
    r"""No repository holds a model with this ID."""


class AliasNotFoundError(AudmodelError, RuntimeError):
    r"""No repository holds an alias with this name."""


class ModelExistsError(AudmodelError, RuntimeError):
    r"""A model with this ID was published before."""


class PublishConflictError(AudmodelError, RuntimeError):
    r"""Another publisher is at work on the same model ID."""


class FileChangedError(AudmodelError, RuntimeError):
    r"""A file changed while it was being published."""


class InvalidDocumentError(AudmodelError, ValueError):
    r"""A YAML document holds something else than plain data."""


class ArchiveError(AudmodelError, RuntimeError):
    r"""An archive is damaged, truncated, hostile, or not supported."""


class ArchiveMismatchError(ArchiveError):
    r"""An archive is not the one that was published with the header."""


class CacheError(AudmodelError, OSError):
    r"""The model cache cannot be read or written."""


class CacheBusyError(CacheError):
    r"""Another process is at work on a model in the cache."""


class DiskFullError(CacheError):
    r"""The disk does not have enough room."""


class NotCachedError(CacheError, FileNotFoundError):
    r"""A model is not in the cache."""


__all__ = [
    "AudmodelError",
    "InvalidInputError",
    "InvalidIdError",
    "InvalidFolderError",
    "InvalidDataError",
    "FileNotInModelError",
    "ConfigurationError",
    "ModelNotFoundError",
    "AliasNotFoundError",
    "ModelExistsError",
    "PublishConflictError",
    "FileChangedError",
    "InvalidDocumentError",
    "ArchiveError",
    "ArchiveMismatchError",
    "CacheError",
    "CacheBusyError",
    "LockTimeoutError",
    "DiskFullError",
    "NotCachedError",
    "RepositoryError",
    "RepositoryNotFoundError",
    "RepositoryUnreachableError",
    "OfflineError",
    "UnprotectedRepositoryError",
    "WriteUncertainError",
]

# ``audbackend`` takes longer to import than everything else together.
# The errors that derive from its classes, or from those of ``filelock``,
# live with what imports it anyway.
_LAZY = {
    "LockTimeoutError": "audmodel.core.cache.errors",
    "OfflineError": "audmodel.core.backend.errors",
    "RepositoryError": "audmodel.core.backend.errors",
    "RepositoryNotFoundError": "audmodel.core.backend.errors",
    "RepositoryUnreachableError": "audmodel.core.backend.errors",
    "UnprotectedRepositoryError": "audmodel.core.backend.errors",
    "WriteUncertainError": "audmodel.core.backend.errors",
}


# Type checkers know the names from above, and should complain about others
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
