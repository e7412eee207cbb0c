r"""Errors that import nothing, see :mod:`audmodel.errors` for the whole tree."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager


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


# Unpickling calls the constructor with the arguments of the first base class
class FileNotInModelError(FileNotFoundError, InvalidInputError):
    r"""A model has no file of this name, or none that matches a pattern."""


class ConfigurationError(AudmodelError, ValueError):
    r"""A configuration file or a repository entry cannot be used."""


class MissingPackageError(AudmodelError, ImportError):
    r"""A package is not installed that only some functions need."""


class ModelNotFoundError(AudmodelError, RuntimeError):
    r"""No repository holds a model with this ID."""


class AliasNotFoundError(AudmodelError, RuntimeError):
    r"""No repository holds an alias with this name."""


class UntrustedModelError(AudmodelError, RuntimeError):
    r"""No signer that the configuration trusts has signed a model."""


class ModelExistsError(AudmodelError, RuntimeError):
    r"""A model with this ID was published before."""


class ModelInUseError(AudmodelError, RuntimeError):
    r"""A model cannot be deleted, since aliases point to it."""


class PublishConflictError(AudmodelError, RuntimeError):
    r"""Another process publishes or deletes the same model, or moves the same alias."""


class FileChangedError(AudmodelError, RuntimeError):
    r"""A file changed while it was being published."""


class InvalidDocumentError(AudmodelError, ValueError):
    r"""A YAML document holds data that is not plain."""


class ArchiveError(AudmodelError, RuntimeError):
    r"""An archive is damaged, truncated, hostile, or not supported."""


class ArchiveMismatchError(ArchiveError):
    r"""An archive differs from the one that was published with the header."""


class CacheError(AudmodelError, OSError):
    r"""The model cache cannot be read or written."""


class CacheBusyError(CacheError):
    r"""Another process uses a model in the cache."""


class DiskFullError(CacheError):
    r"""The disk does not have enough room."""


class NotCachedError(CacheError, FileNotFoundError):
    r"""A model is not in the cache."""


@contextmanager
def noting(what: str, done: Sequence[str]) -> Iterator[None]:
    r"""Let an error of the block tell what was done before it.

    Args:
        what: what was done, such as ``'Deleted'``
        done: with which models or aliases

    """
    try:
        yield
    except AudmodelError as error:
        if done:
            error.add_note(f"{what} before: {', '.join(done)}.")
        raise
