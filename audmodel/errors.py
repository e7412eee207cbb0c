r"""Errors raised by audmodel.

Every error derives from :class:`AudmodelError`
and from the builtin or ``audbackend`` class
that audmodel 1.x raised for the same mistake,
so that existing ``except`` clauses keep working::

    AudmodelError
    ├── InvalidInputError (ValueError)
    │   ├── InvalidIdError (RuntimeError)     malformed model ID
    │   ├── InvalidFolderError (RuntimeError) model folder that cannot be published
    │   ├── InvalidDataError (RuntimeError)   data that cannot be stored
    │   └── FileNotInModelError (FileNotFoundError)  no such file in the model
    ├── ConfigurationError (ValueError)       configuration file or repository entry
    ├── MissingPackageError (ImportError)     package that only some functions need
    ├── ModelNotFoundError (RuntimeError)     no such model ID
    ├── AliasNotFoundError (RuntimeError)     no such alias
    ├── UntrustedModelError (RuntimeError)    no signature of a trusted signer
    ├── ModelExistsError (RuntimeError)       model ID was published before
    ├── ModelInUseError (RuntimeError)        aliases point to a model to delete
    ├── PublishConflictError (RuntimeError)   another publisher of this model or alias
    ├── FileChangedError (RuntimeError)       file changed while it was published
    ├── InvalidDocumentError (ValueError)     YAML that is not plain data
    ├── ArchiveError (RuntimeError)           archive that is damaged or hostile
    │   └── ArchiveMismatchError              archive that is not the published one
    ├── CacheError (OSError)                  cache that cannot be used
    │   ├── CacheBusyError                    another process uses the model
    │   │   └── LockTimeoutError (filelock.Timeout)  for longer than ``timeout``
    │   ├── DiskFullError                     not enough room for the model
    │   └── NotCachedError (FileNotFoundError)  the model is not in the cache
    └── RepositoryError (audbackend.BackendError)
        ├── RepositoryNotFoundError           the repository does not exist
        ├── RepositoryUnreachableError        the repository does not respond
        │   └── OfflineError                  AUDMODEL_OFFLINE is set
        ├── UnprotectedRepositoryError        no conditional writes
        └── WriteUncertainError               the outcome of a write is unknown

"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from typing import Any

from audmodel.core.errors import AliasNotFoundError as AliasNotFoundError
from audmodel.core.errors import ArchiveError as ArchiveError
from audmodel.core.errors import ArchiveMismatchError as ArchiveMismatchError
from audmodel.core.errors import AudmodelError as AudmodelError
from audmodel.core.errors import CacheBusyError as CacheBusyError
from audmodel.core.errors import CacheError as CacheError
from audmodel.core.errors import ConfigurationError as ConfigurationError
from audmodel.core.errors import DiskFullError as DiskFullError
from audmodel.core.errors import FileChangedError as FileChangedError
from audmodel.core.errors import FileNotInModelError as FileNotInModelError
from audmodel.core.errors import InvalidDataError as InvalidDataError
from audmodel.core.errors import InvalidDocumentError as InvalidDocumentError
from audmodel.core.errors import InvalidFolderError as InvalidFolderError
from audmodel.core.errors import InvalidIdError as InvalidIdError
from audmodel.core.errors import InvalidInputError as InvalidInputError
from audmodel.core.errors import MissingPackageError as MissingPackageError
from audmodel.core.errors import ModelExistsError as ModelExistsError
from audmodel.core.errors import ModelInUseError as ModelInUseError
from audmodel.core.errors import ModelNotFoundError as ModelNotFoundError
from audmodel.core.errors import NotCachedError as NotCachedError
from audmodel.core.errors import PublishConflictError as PublishConflictError
from audmodel.core.errors import UntrustedModelError as UntrustedModelError


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


__all__ = [
    "AudmodelError",
    "InvalidInputError",
    "InvalidIdError",
    "InvalidFolderError",
    "InvalidDataError",
    "FileNotInModelError",
    "ConfigurationError",
    "MissingPackageError",
    "ModelNotFoundError",
    "AliasNotFoundError",
    "UntrustedModelError",
    "ModelExistsError",
    "ModelInUseError",
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

# Tracebacks, messages and pickles name the public module
for _name in set(__all__).intersection(globals()):
    globals()[_name].__module__ = __name__

# ``audbackend`` takes longer to import than everything else together.
# Errors that derive from its classes, or from those of ``filelock``,
# are defined in modules that import these packages anyway.
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
